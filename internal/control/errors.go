package control

import "errors"

// Why control says no. Those about a key or a device are also what a user is told behind the door, so each says what
// that person can do next.
var (
	ErrKeyUnknown = errors.New("no such access key: ask whoever gave it to you for a new one " +
		"('godwit key list' shows the operator all of them)")
	ErrKeyRevoked     = errors.New("the access key has been revoked: ask whoever gave it to you for a new one")
	ErrKeyExpired     = errors.New("the access key has expired: ask whoever gave it to you for a new one")
	ErrTooManyDevices = errors.New("the access key is in use on as many devices as it allows: " +
		"ask whoever gave it to you to revoke one that is no longer used, or for another key")
	ErrQuota = errors.New("the access key's data for this month is used up: wait until the next month begins (UTC), " +
		"or ask whoever gave it to you for another key")
	ErrDeviceRevoked = errors.New("this device has been revoked: ask whoever gave you the access key")
	ErrOtherNetwork  = errors.New("the device certificate is for another network: enrol with an access key of this one")

	ErrNameTaken       = errors.New("another access key has this name: choose another name, or revoke that key first")
	ErrBadName         = errors.New("not a usable name for an access key")
	ErrBadMaxDevices   = errors.New("not a usable number of devices")
	ErrBadLimit        = errors.New("not a usable monthly limit")
	ErrBadExpiry       = errors.New("not a usable time of expiry")
	ErrBadDeviceKey    = errors.New("not an Ed25519 public key")
	ErrBadDeviceID     = errors.New("not a device id nor the beginning of one: 'godwit device list' shows them all")
	ErrDeviceUnknown   = errors.New("no such device: 'godwit device list' shows them all")
	ErrDeviceAmbiguous = errors.New("more than one device id begins like this: give more of it")
)
