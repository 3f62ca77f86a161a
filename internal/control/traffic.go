package control

import (
	"context"
	"fmt"
	"time"

	"github.com/godwit-vpn/godwit/internal/device"
)

// MaxLimit is the largest monthly limit of an access key, in bytes: an exabyte, so that no sum of totals overflows.
const MaxLimit = 1_000_000_000_000_000_000

// Month is a calendar month in UTC, as a number that people can read: 202703 is March 2027. Nothing finer is kept of
// what was carried when.
type Month int

// MonthOf returns the month of t.
func MonthOf(t time.Time) Month {
	t = t.UTC()
	return Month(t.Year()*100 + int(t.Month()))
}

// End is the moment at which the next month begins.
func (m Month) End() time.Time {
	return time.Date(int(m)/100, time.Month(int(m)%100)+1, 1, 0, 0, 0, 0, time.UTC)
}

// before is the month before m.
func (m Month) before() Month {
	return MonthOf(time.Date(int(m)/100, time.Month(int(m)%100)-1, 1, 0, 0, 0, 0, time.UTC))
}

// Traffic is how many bytes one device carried under one access key, both directions added.
type Traffic struct {
	KeyID [8]byte
	// Device is zero for all devices together that are forgotten.
	Device device.ID
	Bytes  int64
}

// Totals is what was carried in one month, by access key and by device. Who is absent carried nothing.
type Totals struct {
	Keys    map[[8]byte]int64
	Devices map[device.ID]int64
}

// Totals returns what was carried in the month of t, as far as it was added.
func (s *Service) Totals(ctx context.Context, t time.Time) (Totals, error) {
	var rows []Traffic
	err := s.store.View(ctx, func(r Reader) (err error) {
		rows, err = r.Traffic(ctx, MonthOf(t))
		return err
	})
	if err != nil {
		return Totals{}, fmt.Errorf("read the month's totals: %w", err)
	}
	totals := Totals{Keys: byKey(rows), Devices: make(map[device.ID]int64)}
	for _, row := range rows {
		totals.Devices[row.Device] += row.Bytes // one that changed its access key has two rows
	}
	delete(totals.Devices, device.ID{})
	return totals, nil
}

// AddTraffic adds what was carried to the present month's totals: all of it if it returns nil, else nothing. An access
// key that has reached its limit by then is refused, and announced to the listeners (OnRevoked), before it returns.
func (s *Service) AddTraffic(ctx context.Context, carried []Traffic) error {
	err := s.store.Update(ctx, func(w Writer) error { return w.AddTraffic(ctx, MonthOf(time.Now()), carried) })
	if err != nil {
		return fmt.Errorf("add to the month's totals: %w", err)
	}
	// It is added, whatever comes now: an error here must not make the caller add it again. Run tells of it.
	_ = s.refresh(ctx)
	return nil
}

func byKey(rows []Traffic) map[[8]byte]int64 {
	sums := make(map[[8]byte]int64)
	for _, row := range rows {
		sums[row.KeyID] += row.Bytes
	}
	return sums
}
