package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What was seen in the lab's countries, and what was to be named ('lab doctor --record' writes these).
func TestRecorded(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Case         string
			Found        []Kind
			Observations *Observations
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		findings, _ := Judge(r.Observations)
		var kinds []Kind
		for _, f := range findings {
			if f.Text == "" || f.Text == string(f.Kind) || len(f.Evidence) == 0 || f.Confidence == "" {
				t.Errorf("%s: %+v says too little", r.Case, f)
			}
			if !slices.Contains(kinds, f.Kind) {
				kinds = append(kinds, f.Kind)
			}
		}
		if !slices.Equal(kinds, r.Found) {
			t.Errorf("%s: %v, not %v", r.Case, kinds, r.Found)
		}
	}
}

// seen is a healthy way to a gateway with two addresses and a name, to be made ill.
func seen() *Observations {
	o := &Observations{Addresses: 1, Names: []Name{{}, {Own: true}}, Resolvers: []Resolver{{Outcome: OK}}}
	at := 1.0
	for place := range 2 {
		o.Places = append(o.Places, Place{Ports: []uint16{443}, QUIC: []uint16{443}})
		o.Connects = append(o.Connects, Connect{place, 443, OK, 50}, Connect{place, 80, OK, 50})
		for _, h := range []Hello{{Hello: Browser}, {Hello: Browser, Name: MadeUp}, {Hello: Plainly}, {Hello: Small}} {
			h.Place, h.Port, h.Outcome, h.Stage, h.Key, h.At = place, 443, OK, AtEnd, gatewaysKey, at
			o.Hellos = append(o.Hellos, h)
			at++
		}
		o.Plains = append(o.Plains, Plain{Place: place, Port: 80, Outcome: OK, Status: 301, Home: true})
	}
	for _, kind := range []string{Browser, Small} {
		o.Hellos = append(o.Hellos, Hello{Place: 0, Port: 443, Hello: kind, Name: 1, Outcome: OK, Stage: AtEnd, Key: gatewaysKey, At: at})
		at++
	}
	o.Plains = append(o.Plains, Plain{Place: 0, Port: 80, Name: 1, Outcome: OK, Status: 301, Home: true})
	for _, name := range []int{0, 1} {
		o.Bulks = append(o.Bulks, Bulk{Place: 0, Port: 443, Name: name, Outcome: OK, Stage: AtEnd, Bytes: 280e3, Seconds: 0.6, Rate: 4e6})
	}
	o.Datagrams = []Datagrams{{Place: 0, Port: 443, Rate: 250e3, Answered: strings.Repeat("1", 40)}, {Place: 0, Port: 443, Age: 9, Rate: 2.5e6,
		Answered: strings.Repeat("1", 300)}}
	for _, name := range []int{0, 1} {
		o.Initials = append(o.Initials, Initial{Place: 0, Port: 443, Version: 1, Name: name, Outcome: OK, Again: OK, Fresh: OK})
	}
	o.Clocks = []Clock{{Gateway: true, Skew: 1}}
	return o
}

// One thing is changed, and this is what is named, or not.
func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(o *Observations)
		want   []Kind
	}{
		"healthy":                    {func(*Observations) {}, nil},
		"nothing was looked at":      {func(o *Observations) { *o = Observations{Addresses: 1, Names: []Name{{}}} }, []Kind{Unreachable}},
		"a clock of a stranger's":    {func(o *Observations) { o.Clocks = []Clock{{Skew: -86400}} }, []Kind{WrongClock}},
		"a stranger's, but not ours": {func(o *Observations) { o.Clocks = append(o.Clocks, Clock{Skew: -86400}) }, nil},
		"four minutes":               {func(o *Observations) { o.Clocks[0].Skew = 240 }, nil},
		"one slow connection":        {func(o *Observations) { o.Connects[0].MS = 1050 }, []Kind(nil)},
		"half of them slow": {func(o *Observations) {
			o.Connects = append(o.Connects, Connect{0, 443, OK, 1050}, Connect{0, 443, OK, 3050})
		}, []Kind{Lossy}},
		"another key, and a redirect": {portal, []Kind{CaptivePortal}},
		"another key":                 {somebody, []Kind{SomebodyElse}},
		"lost with the rest": {func(o *Observations) {
			o.Connects = append(o.Connects, Connect{0, 443, OK, 1050}, Connect{0, 443, OK, 3050})
			o.Datagrams[0].Answered = strings.Repeat("10", 20)
		}, []Kind{Lossy}},
		"UDP lost alone": {func(o *Observations) {
			o.Datagrams = o.Datagrams[:1]
			o.Datagrams[0].Answered = strings.Repeat("10", 20)
		},
			[]Kind{UDPLossy}},
		"UDP stops": {func(o *Observations) { o.Datagrams[0].Answered = strings.Repeat("1", 12) + strings.Repeat("0", 28) }, []Kind{Freeze}},
		"a busy server once": {func(o *Observations) {
			held := strings.Repeat("1111100000", 30)
			o.Datagrams[1].Answered = held
			for i, answered := range []string{held, strings.Repeat("1", 300), held} {
				o.Datagrams = append(o.Datagrams, Datagrams{Place: 0, Port: 443, Age: float64(i%2) * 14, Rate: 2.5e6, Answered: answered})
			}
		}, nil},
		"old sockets held": {func(o *Observations) {
			held := strings.Repeat("110", 100)
			o.Datagrams[1].Answered = held
			for i, answered := range []string{strings.Repeat("1", 300), held, strings.Repeat("1", 300)} {
				o.Datagrams = append(o.Datagrams, Datagrams{Place: 0, Port: 443, Age: float64(i%2) * 14, Rate: 2.5e6, Answered: answered})
			}
		}, []Kind{UDPPoliced}},
		"QUIC that is not there": {func(o *Observations) {
			o.Datagrams = []Datagrams{{Place: 0, Port: 443, Answered: "00000", Refused: true}}
			o.Initials = []Initial{{Place: 0, Port: 443, Version: 1, Outcome: Refused}}
		}, nil},
		"a name, once of three": {func(o *Observations) {
			o.Hellos = append(o.Hellos, Hello{Place: 0, Port: 443, Hello: Browser, Name: 1, Outcome: Reset, Stage: AtHandshake, At: 90})
			o.Residuals = []Residual{{Protocol: "tls", Port: 443, Name: 1, NewPort: Silent, SamePort: Untested, Since: 90, Still: 100, Gone: 130}}
		}, []Kind{TLSName}},
		"bursts, and a lone one passes": {func(o *Observations) {
			o.Bursts = []Burst{{Name: 1, Outcomes: []Outcome{OK, OK, Silent}, Later: OK, Neutral: OK}}
		}, nil},
		"bursts": {func(o *Observations) {
			o.Bursts = []Burst{{Name: 1, Outcomes: []Outcome{OK, OK, Silent}, Later: Silent, Neutral: OK, Since: 40, Still: 60}}
		}, []Kind{BurstsPunished}},
		"answers differ, as large sites' do": {func(o *Observations) {
			o.Questions = []Question{{Resolver: 0, Place: -1, Answers: []Answer{{Code: 3, Class: 1}}},
				{Resolver: 0, Place: -1, Name: 1, Answers: []Answer{{Class: 2}}}, {Resolver: 0, Place: -1, Name: 1, TCP: true, Answers: []Answer{{Class: 3}}}}
		}, nil},
		"an answer that cannot be": {func(o *Observations) {
			o.Questions = []Question{{Resolver: 0, Place: -1, Answers: []Answer{{Code: 3, Class: 1}}}, {Resolver: 0, Place: -1, Name: 1,
				Answers: []Answer{{Class: 2, Private: true}}}, {Resolver: 0, Place: -1, Name: 1, TCP: true, Answers: []Answer{{Class: 3}}}}
		}, []Kind{DNSForged}},
		"somebody answers about everything": {func(o *Observations) {
			for name := range 2 {
				o.Questions = append(o.Questions, Question{Resolver: -1, Name: name, Answers: []Answer{{Code: 3, Class: 1}}})
			}
		}, []Kind{DNSIntercepted}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := seen()
			tt.change(o)
			findings, untold := Judge(o)
			var kinds []Kind
			for _, f := range findings {
				kinds = append(kinds, f.Kind)
			}
			if !slices.Equal(kinds, tt.want) {
				t.Errorf("%v, not %v; untold %q", kinds, tt.want, untold)
			}
		})
	}
}

func somebody(o *Observations) {
	for i := range o.Hellos {
		o.Hellos[i].Key = othersKey
	}
	for i := range o.Plains {
		o.Plains[i].Home = false
	}
}

func portal(o *Observations) {
	somebody(o)
	for i := range o.Plains {
		o.Plains[i].Away, o.Plains[i].Status = true, 302
	}
}
