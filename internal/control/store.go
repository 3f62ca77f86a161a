package control

import (
	"context"
	"time"

	"github.com/godwit-vpn/godwit/internal/device"
)

// AccessKey is what an operator hands to a user: a name, and the right to bring some devices. All of it was typed by
// the operator, except the id, which is random.
type AccessKey struct {
	ID         [8]byte // never zero
	Name       string
	MaxDevices int
	// Expires is in whole seconds; zero means never.
	Expires time.Time
	// Limit is how many bytes its devices may carry together in a month; 0 means any number.
	Limit int64
	// Revoked is for good. The row stays, so that the id stays refused.
	Revoked bool
}

// Device is all that is kept of an enrolled device: no key, no address, no time at which it was seen.
type Device struct {
	ID    device.ID
	KeyID [8]byte
	// Expires is the end of the day, in UTC, on which the device's certificate ends. Nothing finer is kept, because the
	// second would tell when the device was last here.
	Expires time.Time
	// Revoked is for good.
	Revoked bool
}

// DeviceFilter selects devices; its zero value selects all of them.
type DeviceFilter struct {
	// KeyID selects those of one access key; zero means of any.
	KeyID [8]byte
	// Prefix selects those whose id in hexadecimal begins so, lower case; empty means any.
	Prefix string
	// Revoked selects the revoked ones only.
	Revoked bool
}

// Store keeps access keys and devices. Safe for concurrent use, also by several processes on the same data. Errors of
// fn are returned as they are, so that errors.Is finds control's own; others say what is wrong with the store itself.
//
// storetest is the suite an implementation must pass.
type Store interface {
	// View calls fn with one consistent state of the data. What fn got from r does not outlive it.
	View(ctx context.Context, fn func(r Reader) error) error
	// Update calls fn in a transaction that is as if no other ran at the same time, and makes fn's changes durable if
	// it returns nil, or none of them. It may call fn again if the transaction could not be completed.
	Update(ctx context.Context, fn func(w Writer) error) error
	// Changes returns a number that is another one after any change to the data, by whichever process, and tells
	// nothing else. It is cheap enough to ask four times a second.
	Changes(ctx context.Context) (uint64, error)
}

// Reader looks into a Store.
type Reader interface {
	// Key fails with ErrKeyUnknown if there is none.
	Key(ctx context.Context, id [8]byte) (AccessKey, error)
	// KeyNamed fails with ErrKeyUnknown if there is none. A key that is not revoked goes before revoked ones of the
	// same name.
	KeyNamed(ctx context.Context, name string) (AccessKey, error)
	// Keys returns all keys, by name.
	Keys(ctx context.Context) ([]AccessKey, error)
	// Device fails with ErrDeviceUnknown if there is none.
	Device(ctx context.Context, id device.ID) (Device, error)
	// Devices returns the selected devices, by id.
	Devices(ctx context.Context, filter DeviceFilter) ([]Device, error)
	// CountDevices counts the devices of one key that are not revoked.
	CountDevices(ctx context.Context, keyID [8]byte) (int, error)
	// Traffic returns the totals of one month, in no order: one row for each access key and device that carried
	// anything, and one for each access key's forgotten devices.
	Traffic(ctx context.Context, m Month) ([]Traffic, error)
}

// Writer changes a Store.
type Writer interface {
	Reader
	// InsertKey fails with ErrNameTaken if a key that is not revoked has the name.
	InsertKey(ctx context.Context, key AccessKey) error
	// RevokeKey fails with ErrKeyUnknown if there is none.
	RevokeKey(ctx context.Context, id [8]byte) error
	// PutDevice inserts or replaces the device with d's id. Its access key must exist.
	PutDevice(ctx context.Context, d Device) error
	// DeleteDevices forgets the devices that expired before t and are not revoked, and returns how many those were. What
	// they carried stays in their access keys' totals, under the zero device.
	DeleteDevices(ctx context.Context, t time.Time) (int, error)
	// AddTraffic adds to the totals of one month. What is carried by a device that is not there counts as a forgotten
	// one's; what is carried under an access key that is not there counts for nobody.
	AddTraffic(ctx context.Context, m Month, carried []Traffic) error
	// DeleteTraffic drops the totals of all months before m.
	DeleteTraffic(ctx context.Context, m Month) error
}
