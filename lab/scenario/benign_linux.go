package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/survival"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// ordinary is something that people do at allowed places, with the program that they do it with.
type ordinary struct {
	kind string
	// words are those of profile.Deniable, beside kind, that mean it too.
	words []string
	// dear is what takes seconds: it is done with some seeds only. times is how often with each; zero is once.
	dear    bool
	times   int
	program program
	// do returns why it failed. The turn counts all that is done in a run.
	do func(ctx context.Context, c *country, on *netns.Host, turn int) error
}

// benignPlan says with how many seeds ordinary traffic is tried; what is dear, and what the profile denies and so waits in
// vain, with the first of them only.
type benignPlan struct{ seeds, dear, denied int }

const (
	ordinaryTime = 20 * time.Second
	deniedTime   = 10 * time.Second
	settled      = 100 * time.Millisecond // more than the path is long
)

var abroad = []string{"foreign"}

// people are who does ordinary things inside, all at once, each one thing after the other.
var people = []struct {
	host  string
	addrs []netip.Addr
	does  []ordinary
}{
	{"client", []netip.Addr{clientAddr, netip.MustParseAddr("2001:db8:1::10")}, []ordinary{
		{kind: "https", words: abroad, times: 3, program: curlProgram, do: curl("https://"+allowed+"/", "2", 200)},
		{kind: "https-home", program: curlProgram, do: curl("https://"+home+"/", "2", 200)},
		{kind: "http", words: abroad, times: 2, program: curlProgram, do: curl("http://"+allowed+"/", "1.1", 200)},
		{kind: "browser", words: abroad, dear: true, program: chromiumProgram, do: browser},
		{kind: "quic", words: []string{"foreign", "udp"}, dear: true, program: chromiumProgram, do: browserQUIC},
		{kind: "tabs", words: abroad, dear: true, program: chromiumProgram, do: tabs},
	}},
	{"laptop", []netip.Addr{laptopAddr, roamedAddr}, []ordinary{
		{kind: "dns-home", times: 2, program: digProgram, do: dig(dnsAddr)},
		{kind: "dns-udp", words: []string{"foreign", "udp"}, times: 3, program: digProgram, do: dig(resolverAddr)},
		{kind: "dns-tcp", words: abroad, times: 2, program: digProgram, do: dig(resolverAddr, "+tcp")},
		{kind: "ssh", words: abroad, program: sshProgram, do: ssh},
		{kind: "scp", words: []string{"foreign", "ssh"}, dear: true, program: scpProgram, do: scp},
	}},
	{"office", []netip.Addr{officeAddr}, []ordinary{
		{kind: "tls12", words: abroad, times: 2, program: curlProgram, do: curl("https://"+allowed+"/", "1.1", 200, "--tls-max", "1.2", "--http1.1")},
		{kind: "video", words: abroad, dear: true, program: curlProgram, do: curl("https://"+allowed+"/file/3000000?seed=3&rate=600000", "2", 200)},
		{kind: "download", words: abroad, dear: true, program: curlProgram, do: curl("https://"+allowed+"/file/30000000?seed=4", "2", 200)},
	}},
}

// denies reports whether a profile denies what to everyone.
func denies(p *profile.Profile, what ordinary) bool {
	return slices.ContainsFunc(p.Denies, func(d string) bool { return d == what.kind || slices.Contains(what.words, d) })
}

// benign does what ordinary people do at one profile, with many seeds, and counts what is hit: what fails, and what a rule
// that acts finds fault with.
func benign(ctx context.Context, name string, first uint64, plan benignPlan, tools *peer.Tools) (survival.Benign, error) {
	count := &benignCount{Benign: survival.Benign{Profile: name, Tried: map[string]int{}, Hit: map[string]int{}, Rules: map[string]int{},
		Denied: map[string]int{}, Stopped: map[string]int{}, Skipped: map[string]string{}}}
	for n := range plan.seeds {
		if err := ctx.Err(); err != nil {
			return count.Benign, err
		}
		if err := benignOnce(ctx, name, first+uint64(n), n, plan, tools, count); err != nil {
			return count.Benign, err
		}
		count.Seeds++
	}
	return count.Benign, nil
}

// benignCount is added to by several.
type benignCount struct {
	mu sync.Mutex
	survival.Benign
	without6 bool // the profile denies IPv6 to everyone
}

// skip notes why a kind is not tried.
func (b *benignCount) skip(kind string, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Skipped[kind] = why.Error()
}

// hopeless reports whether a kind was hit so often and so regularly that there is no more to be learnt, only to be waited
// for.
func (b *benignCount) hopeless(what ordinary) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	enough := 6
	if what.dear {
		enough = 2
	}
	return b.Tried[what.kind] >= enough && b.Hit[what.kind] == b.Tried[what.kind]
}

// ipv6 is the word of profile.Deniable for a family that programs try first and do without.
const ipv6 = "ipv6"

// add counts one thing that was done.
func (b *benignCount) add(what ordinary, denied bool, seed uint64, err error, fired []firewall.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.without6 {
		others := slices.DeleteFunc(slices.Clone(fired), func(e firewall.Event) bool { return e.Server.Addr().Is6() })
		if len(others) < len(fired) {
			b.Denied[ipv6]++
			b.Stopped[ipv6]++
		}
		fired = others
	}
	hit := err != nil || len(fired) > 0
	if denied {
		b.Denied[what.kind]++
		if hit {
			b.Stopped[what.kind]++
		}
		return
	}
	b.Tried[what.kind]++
	if !hit {
		return
	}
	b.Hit[what.kind]++
	for _, e := range fired {
		b.Rules[e.Rule]++
	}
	if b.First != "" {
		return
	}
	b.First = fmt.Sprintf("%s, seed %d", what.kind, seed)
	if len(fired) > 0 {
		b.First += ": " + fired[0].Rule + ": " + fired[0].Detail
	}
	if err != nil {
		b.First += ": " + err.Error()
	}
}

// benignOnce has people do their things in a country of one seed, the n-th.
func benignOnce(ctx context.Context, name string, seed uint64, n int, plan benignPlan, tools *peer.Tools, count *benignCount) (err error) {
	p, err := profile.Load(name)
	if err != nil {
		return err
	}
	count.Profile, count.without6 = p.Name, slices.Contains(p.Denies, ipv6)
	dir, err := os.MkdirTemp("/run", "lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := newCountry(ctx, p, seed, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	sshd, noSSH := c.openSSH(ctx, tools)
	defer sshd.Stop()
	var all sync.WaitGroup
	for _, who := range people {
		all.Go(func() {
			turn := 0
			for _, what := range who.does {
				denied := denies(p, what)
				if what.dear && n >= plan.dear || denied && n >= plan.denied {
					continue
				}
				if _, err := what.program.find(); err != nil {
					count.skip(what.kind, err)
					continue
				}
				if noSSH != nil && (what.kind == "ssh" || what.kind == "scp") {
					count.skip(what.kind, noSSH)
					continue
				}
				times, limit := max(1, what.times), time.Minute+chromiumTime
				if denied {
					times, limit = 1, deniedTime
				}
				for range times {
					if count.hopeless(what) {
						break
					}
					turn++
					before := len(c.acted(who.addrs))
					limited, cancel := context.WithTimeout(ctx, limit)
					err := what.do(limited, c, c.host(who.host), turn)
					cancel()
					// What is still on its way belongs to this one and not to the next.
					if sleep(ctx, settled) != nil {
						return
					}
					count.add(what, denied, seed, err, c.acted(who.addrs)[before:])
				}
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

// acted lists what rules that do something found on connections of an end's.
func (c *country) acted(addrs []netip.Addr) (fired []firewall.Event) {
	for _, e := range c.firewall.Events() {
		if !e.Cleared && !e.Scored && (slices.Contains(addrs, e.Client.Addr()) || slices.Contains(addrs, e.Server.Addr())) {
			fired = append(fired, e)
		}
	}
	return fired
}

// curl fetches a URL and wants this version of HTTP.
func curl(url, version string, status int, args ...string) func(context.Context, *country, *netns.Host, int) error {
	want := fmt.Sprintf("%s %d", version, status)
	return func(ctx context.Context, c *country, on *netns.Host, _ int) error {
		got, err := c.command(ctx, on, ordinaryTime, curlProgram, append(slices.Clone(args), "-sSk", "-o", "/dev/null",
			"-w", "%{http_version} %{http_code}", url)...)
		if err == nil && got != want {
			err = fmt.Errorf("%s says HTTP/%s, not HTTP/%s", url, got, want)
		}
		return err
	}
}

// Chromium's own errands are not the lab's business.
const noErrands = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.example"

func loaded(dom, site string, err error) error {
	if err == nil && !strings.Contains(dom, "<h1>"+site+"</h1>") {
		err = errors.New("the page did not load in the browser: " + clip(dom, 200))
	}
	return err
}

func browser(ctx context.Context, c *country, on *netns.Host, _ int) error {
	dom, err := c.chromium(ctx, on, "https://"+allowed+"/", noErrands, "--disable-quic")
	return loaded(dom, allowed, err)
}

func browserQUIC(ctx context.Context, c *country, on *netns.Host, _ int) error {
	pin, err := pinned(allowed)
	if err != nil {
		return err
	}
	dom, err := c.chromium(ctx, on, "https://"+allowed+"/", noErrands, pin, "--enable-quic", "--origin-to-force-quic-on="+allowed+":443")
	return loaded(dom, allowed, err)
}

// tabPage opens several pages at once, and then fetches from each site, one after the other, before the document is done.
const tabPage = `<!doctype html><title>tabs</title>
<iframe src="https://` + allowed + `/"></iframe>
<iframe src="https://` + home + `/"></iframe>
<iframe src="http://` + allowed + `/"></iframe>
<iframe src="https://` + home + `/file/100000"></iframe>
<pre id="result"></pre>
<script>
let done = 0;
for (const url of ['https://` + allowed + `/', 'https://` + home + `/', 'https://` + allowed + `/part/9']) {
	const r = new XMLHttpRequest();
	r.open('GET', url, false);
	r.overrideMimeType('text/plain; charset=x-user-defined');
	r.send();
	if (r.status === 200) done++;
}
document.getElementById('result').textContent = done + ' of 3';
</script>
`

func tabs(ctx context.Context, c *country, on *netns.Host, turn int) error {
	file := filepath.Join(c.dir, fmt.Sprintf("tabs-%d.html", turn))
	if err := os.WriteFile(file, []byte(tabPage), 0o644); err != nil {
		return err
	}
	dom, err := c.chromium(ctx, on, "file://"+file, noErrands, "--disable-quic", "--disable-web-security")
	if err == nil && !strings.Contains(dom, "3 of 3") {
		err = errors.New("not all of the tabs loaded: " + clip(dom, 200))
	}
	return err
}

// dig asks for an allowed name, another one each time.
func dig(resolver netip.Addr, args ...string) func(context.Context, *country, *netns.Host, int) error {
	return func(ctx context.Context, c *country, on *netns.Host, turn int) error {
		name := []string{allowed, home}[turn%2]
		got, err := c.command(ctx, on, ordinaryTime, digProgram, append(slices.Clone(args), "+short", "+time=4", "+tries=3",
			"@"+resolver.String(), name, "A")...)
		if err == nil && strings.TrimSpace(got) != names[name][0].String() {
			err = fmt.Errorf("the resolver says %q of %s", clip(got, 60), name)
		}
		return err
	}
}

// openSSH has sshd run at the allowed site.
func (c *country) openSSH(ctx context.Context, tools *peer.Tools) (*peer.Process, error) {
	e, err := peer.Find("ssh")
	if err != nil {
		return nil, err
	}
	if _, err := e.Prepare(ctx, tools); err != nil {
		return nil, err
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.sshDir(), 0o700); err != nil {
		return nil, err
	}
	server, err := e.New(tools).Gateway(ctx, &peer.Site{Gateway: c.host("allowed"), GatewayAddr: allowedAddr, Dir: c.sshDir()})
	if err != nil {
		return server, err
	}
	var file bytes.Buffer
	if _, err := file.ReadFrom(traffic.Body(11, scpBytes)); err != nil {
		return server, err
	}
	// Sshd finds this directory at /run.
	return server, os.WriteFile(filepath.Join(c.sshDir(), "gateway.run", "file"), file.Bytes(), 0o644)
}

func (c *country) sshDir() string { return filepath.Join(c.dir, "ssh") }

const scpBytes = 4 << 20

// sshOptions are those of a user who has a key and knows the server.
func (c *country) sshOptions(args ...string) ([]string, error) {
	login, err := peer.RealUser()
	if err != nil {
		return nil, err
	}
	return append([]string{"-F", "none", "-i", filepath.Join(c.sshDir(), "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "HostKeyAlias=lab", "-o", "UserKnownHostsFile=" + filepath.Join(c.sshDir(), "known_hosts"), "-o", "User=" + login.Username}, args...), nil
}

func ssh(ctx context.Context, c *country, on *netns.Host, _ int) error {
	args, err := c.sshOptions(allowedAddr.String(), "for i in 1 2 3 4 5; do echo ordinary $i; sleep 0.2; done")
	if err != nil {
		return err
	}
	said, err := c.command(ctx, on, ordinaryTime, sshProgram, args...)
	if err == nil && !strings.Contains(said, "ordinary 5") {
		err = fmt.Errorf("ssh said %q", clip(said, 60))
	}
	return err
}

// scp fetches a file and compares it.
func scp(ctx context.Context, c *country, on *netns.Host, turn int) error {
	got := filepath.Join(c.dir, fmt.Sprintf("scp-%d", turn))
	args, err := c.sshOptions("-q", "-O", allowedAddr.String()+":/run/file", got)
	if err != nil {
		return err
	}
	if _, err := c.command(ctx, on, 2*ordinaryTime, scpProgram, args...); err != nil {
		return err
	}
	have, err := os.ReadFile(got)
	if err != nil {
		return err
	}
	var want bytes.Buffer
	if _, err := want.ReadFrom(traffic.Body(11, scpBytes)); err != nil {
		return err
	}
	if !bytes.Equal(have, want.Bytes()) {
		return fmt.Errorf("scp: %d bytes came, not the right %d", len(have), want.Len())
	}
	return nil
}
