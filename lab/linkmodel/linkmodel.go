// Package linkmodel makes two network interfaces behave as the ends of a long, slow or lossy path. It carries Ethernet
// frames between them in user space, so it needs no kernel module and no privilege beyond its own network namespace.
//
// One direction, as a frame meets it:
//
//	arrives ─► MTU ─► policer ─► tail-drop queue ─► rate ─► loss ─► delay + jitter ─► leaves
//	           (MTU)  (Police)   (Queue)            (Rate)  (Loss,  (Delay, Jitter;
//	             └► ICMP answer                              Burst)  Duplicate, Reorder)
//	                goes back
//
// A lost frame has used its share of the rate, as on a real path where the loss is beyond the bottleneck. A frame is
// charged with its Ethernet length (14 bytes of header, no checksum or preamble).
//
// A Box, when there is one, stands before both directions and decides what comes to them, and in which:
//
//	arrives at a ─►┌─────┐─► forward ──► leaves at b
//	               │ Box │
//	arrives at b ─►└─────┘─► backward ─► leaves at a
//
// The interfaces must not carry super-segments or unfinished checksums: turn TSO, GSO, GRO and transmit checksum
// offload off at both ends. Stats counts what slipped through.
package linkmodel

import (
	"errors"
	"fmt"
	"time"
)

// Direction says what one direction of the path does. The zero value forwards at once and loses nothing.
type Direction struct {
	// Delay is what every frame waits after the bottleneck.
	Delay time.Duration `json:"delay"`
	// Jitter is the most a frame waits on top of Delay, uniformly distributed; frames keep their order.
	Jitter time.Duration `json:"jitter,omitempty"`
	// Rate is the bottleneck in bits per second; zero is no bottleneck.
	Rate int64 `json:"rate,omitempty"`
	// QueueTime bounds the queue before the bottleneck, in the time it takes to drain; QueueBytes in bytes. The
	// smaller one counts. Both zero means DefaultQueueTime. Without a Rate there is no queue.
	QueueTime  time.Duration `json:"queue_time,omitempty"`
	QueueBytes int64         `json:"queue_bytes,omitempty"`
	// PoliceRate drops frames without any queue: a bucket of PoliceBurst bytes, full at first, fills at so many bits per
	// second, and a frame that finds fewer bytes in it than it has is dropped. Zero polices nothing.
	PoliceRate  int64 `json:"police_rate,omitempty"`
	PoliceBurst int64 `json:"police_burst,omitempty"`
	// MTU is the longest IP packet that goes on, without its Ethernet header; zero is no limit. A longer IPv4 packet that
	// may be fragmented is, as by any router; one that may not, and every IPv6 packet, is dropped and answered with
	// ICMP "fragmentation needed" or "packet too big" in the other direction. Neither the fragments nor the answer meet a
	// Box here. IPv6 knows no MTU below 1280: hosts take no notice of such an answer.
	MTU int `json:"mtu,omitempty"`
	// Loss is the probability, 0 to 1, that a frame which got through the queue is lost, independent of all others.
	Loss float64 `json:"loss,omitempty"`
	// BurstStart is the probability that a burst of losses begins with a frame, BurstEnd that it ends before the next
	// one; in it, frames are lost with probability BurstLoss (zero means 1), outside of it with Loss. This is the model of
	// Gilbert and Elliott. Bursts last 1/BurstEnd frames in the mean, and BurstStart/(BurstStart+BurstEnd) of all frames
	// are in one.
	BurstStart float64 `json:"burst_start,omitempty"`
	BurstEnd   float64 `json:"burst_end,omitempty"`
	BurstLoss  float64 `json:"burst_loss,omitempty"`
	// Duplicate is the probability that a frame leaves twice.
	Duplicate float64 `json:"duplicate,omitempty"`
	// Reorder is the probability that a frame waits ReorderBy longer and lets others overtake it.
	Reorder   float64       `json:"reorder,omitempty"`
	ReorderBy time.Duration `json:"reorder_by,omitempty"`
}

// DefaultQueueTime is the queue of a Direction with a Rate that names none.
const DefaultQueueTime = 50 * time.Millisecond

// Spec is a whole path. Forward is from the first interface given to Open to the second, Backward is the way back.
type Spec struct {
	Forward  Direction `json:"forward"`
	Backward Direction `json:"backward"`
	// Seed makes the losses, duplicates and jitter repeatable for the same sequence of frames.
	Seed uint64 `json:"seed"`
}

// Symmetric is a path that does the same in both directions.
func Symmetric(d Direction, seed uint64) Spec { return Spec{Forward: d, Backward: d, Seed: seed} }

// Validate names the first field that makes no sense.
func (s Spec) Validate() error {
	if err := s.Forward.validate(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if err := s.Backward.validate(); err != nil {
		return fmt.Errorf("backward: %w", err)
	}
	return nil
}

// What every host must be able to receive, and what an Ethernet frame holds.
const minMTU, maxMTU = 576, 1500

// maxDelay bounds what a path may hold: beyond it a typing error is likelier than a wish.
const maxDelay = 30 * time.Second

func (d Direction) validate() error {
	for _, v := range []struct {
		name string
		d    time.Duration
	}{{"delay", d.Delay}, {"jitter", d.Jitter}, {"queue_time", d.QueueTime}, {"reorder_by", d.ReorderBy}} {
		if v.d < 0 || v.d > maxDelay {
			return fmt.Errorf("%s %v is not between 0 and %v", v.name, v.d, maxDelay)
		}
	}
	for _, v := range []struct {
		name string
		p    float64
	}{{"loss", d.Loss}, {"burst_start", d.BurstStart}, {"burst_end", d.BurstEnd}, {"burst_loss", d.BurstLoss},
		{"duplicate", d.Duplicate}, {"reorder", d.Reorder}} {
		if !(v.p >= 0 && v.p <= 1) {
			return fmt.Errorf("%s %v is not between 0 and 1", v.name, v.p)
		}
	}
	for _, v := range []struct {
		name string
		rate int64
	}{{"rate", d.Rate}, {"police_rate", d.PoliceRate}} {
		if v.rate != 0 && v.rate < 1000 {
			return fmt.Errorf("%s %d is below 1000 bit/s", v.name, v.rate)
		}
	}
	if d.QueueBytes < 0 {
		return fmt.Errorf("queue_bytes %d is negative", d.QueueBytes)
	}
	if d.Reorder > 0 && d.ReorderBy == 0 {
		return errors.New("reorder without reorder_by does nothing")
	}
	if d.BurstStart > 0 && d.BurstEnd == 0 {
		return errors.New("burst_start without burst_end begins a burst that never ends")
	}
	if d.BurstStart == 0 && (d.BurstEnd > 0 || d.BurstLoss > 0) {
		return errors.New("burst_end and burst_loss do nothing without burst_start")
	}
	if d.PoliceRate > 0 && d.PoliceBurst < maxFrame {
		return fmt.Errorf("police_burst %d lets no frame of %d bytes pass", d.PoliceBurst, maxFrame)
	}
	if d.PoliceRate == 0 && d.PoliceBurst != 0 {
		return errors.New("police_burst without police_rate does nothing")
	}
	if d.MTU != 0 && (d.MTU < minMTU || d.MTU > maxMTU) {
		return fmt.Errorf("mtu %d is not between %d and %d", d.MTU, minMTU, maxMTU)
	}
	return nil
}

// queueLimit is the queue in bytes.
func (d Direction) queueLimit() int64 {
	byTime := int64(float64(d.Rate) / 8 * d.QueueTime.Seconds())
	switch {
	case d.QueueTime == 0 && d.QueueBytes == 0:
		return int64(float64(d.Rate) / 8 * DefaultQueueTime.Seconds())
	case d.QueueTime == 0:
		return d.QueueBytes
	case d.QueueBytes == 0:
		return byTime
	}
	return min(byTime, d.QueueBytes)
}

// Stats counts what happened in one direction since Open. All but the last three are the model at work; those three
// say that the path was not what the Spec promised.
type Stats struct {
	Frames     uint64 `json:"frames"`      // frames that came to the path: arrived, or emitted by the Box
	Bytes      uint64 `json:"bytes"`       // and their length
	Sent       uint64 `json:"sent"`        // frames that left, copies included
	SentBytes  uint64 `json:"sent_bytes"`  // and their length
	TooLong    uint64 `json:"too_long"`    // dropped for the MTU
	Fragments  uint64 `json:"fragments"`   // made for the MTU, beyond the first of each packet
	Answers    uint64 `json:"answers"`     // sent back for the MTU
	Policed    uint64 `json:"policed"`     // dropped by the policer
	Lost       uint64 `json:"lost"`        // by Loss or in a burst
	Dropped    uint64 `json:"dropped"`     // by the full queue
	Duplicated uint64 `json:"duplicated"`  // by Duplicate
	Reordered  uint64 `json:"reordered"`   // by Reorder
	InFlight   uint64 `json:"in_flight"`   // held now
	LateP50us  uint64 `json:"late_p50_us"` // how much later than due frames left: median, to a factor of two
	LateP99us  uint64 `json:"late_p99_us"`
	LateMaxus  uint64 `json:"late_max_us"`

	CPUSeconds float64 `json:"cpu_s"`    // of the thread, once it has ended
	Realtime   bool    `json:"realtime"` // the thread runs before ordinary ones

	Oversize   uint64 `json:"oversize"`    // dropped: not as long as an Ethernet frame, so offloads are on
	Unfinished uint64 `json:"unfinished"`  // dropped: checksum left to hardware, so offloads are on
	KernelDrop uint64 `json:"kernel_drop"` // not seen or not sent: a full ring or backlog, so the machine is too slow
}

// Faithful reports whether nothing happened that the Spec did not ask for.
func (s Stats) Faithful() bool { return s.Oversize == 0 && s.Unfinished == 0 && s.KernelDrop == 0 }
