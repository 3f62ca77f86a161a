package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
)

const secondsPerDay = 24 * 60 * 60

// queries are control's questions and changes inside one transaction.
type queries struct {
	tx *sql.Tx
	// wrap explains the database's own errors.
	wrap func(error) error
	// scrub is set once rows were deleted or changed whose past must not stay readable in the files.
	scrub bool
}

var _ control.Writer = (*queries)(nil)

const keyColumns = "SELECT id, name, max_devices, expires, month_limit, revoked FROM access_key"

func (q *queries) Key(ctx context.Context, id [8]byte) (control.AccessKey, error) {
	return one(ctx, q, scanKey, control.ErrKeyUnknown, keyColumns+" WHERE id = $1", hexOf(id[:]))
}

func (q *queries) KeyNamed(ctx context.Context, name string) (control.AccessKey, error) {
	return one(ctx, q, scanKey, control.ErrKeyUnknown,
		keyColumns+" WHERE name = $1 ORDER BY revoked, id LIMIT 1", name)
}

func (q *queries) Keys(ctx context.Context) ([]control.AccessKey, error) {
	return all(ctx, q, scanKey, keyColumns+" ORDER BY name, revoked, id")
}

func (q *queries) InsertKey(ctx context.Context, k control.AccessKey) error {
	_, err := q.tx.ExecContext(ctx,
		"INSERT INTO access_key (id, name, max_devices, expires, month_limit, revoked) VALUES ($1, $2, $3, $4, $5, $6)",
		hexOf(k.ID[:]), k.Name, k.MaxDevices, seconds(k.Expires), k.Limit, k.Revoked)
	switch {
	case isUnique(err):
		return control.ErrNameTaken
	case err != nil:
		return q.wrap(err)
	}
	return nil
}

func (q *queries) RevokeKey(ctx context.Context, id [8]byte) error {
	n, err := q.exec(ctx, "UPDATE access_key SET revoked = TRUE WHERE id = $1", hexOf(id[:]))
	if err == nil && n == 0 {
		return control.ErrKeyUnknown
	}
	return err
}

const deviceColumns = "SELECT id, key_id, expires_day, revoked FROM device"

func (q *queries) Device(ctx context.Context, id device.ID) (control.Device, error) {
	return one(ctx, q, scanDevice, control.ErrDeviceUnknown, deviceColumns+" WHERE id = $1", id.String())
}

func (q *queries) Devices(ctx context.Context, f control.DeviceFilter) ([]control.Device, error) {
	var where []string
	var args []any
	if f.KeyID != ([8]byte{}) {
		args = append(args, hexOf(f.KeyID[:]))
		where = append(where, fmt.Sprintf("key_id = $%d", len(args)))
	}
	if f.Prefix != "" {
		args = append(args, f.Prefix)
		where = append(where, fmt.Sprintf("substr(id, 1, length($%d)) = $%[1]d", len(args)))
	}
	if f.Revoked {
		where = append(where, "revoked")
	}
	query := deviceColumns
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	return all(ctx, q, scanDevice, query+" ORDER BY id", args...)
}

func (q *queries) CountDevices(ctx context.Context, keyID [8]byte) (int, error) {
	var n int
	err := q.tx.QueryRowContext(ctx, "SELECT count(*) FROM device WHERE key_id = $1 AND NOT revoked",
		hexOf(keyID[:])).Scan(&n)
	if err != nil {
		return 0, q.wrap(err)
	}
	return n, nil
}

func (q *queries) PutDevice(ctx context.Context, d control.Device) error {
	_, err := q.exec(ctx, `INSERT INTO device (id, key_id, expires_day, revoked) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET key_id = $2, expires_day = $3, revoked = $4`,
		d.ID.String(), hexOf(d.KeyID[:]), days(d.Expires), d.Revoked)
	return err
}

func (q *queries) DeleteDevices(ctx context.Context, t time.Time) (int, error) {
	n, err := q.exec(ctx, "DELETE FROM device WHERE expires_day * $1 < $2 AND NOT revoked",
		int64(secondsPerDay), t.Unix())
	if err != nil || n == 0 {
		return 0, err
	}
	q.scrub = true
	const forgotten = "device_id <> '' AND NOT EXISTS (SELECT 1 FROM device WHERE device.id = traffic.device_id)"
	if _, err := q.exec(ctx, `INSERT INTO traffic (month, key_id, device_id, bytes)
		SELECT month, key_id, '', CAST(sum(bytes) AS BIGINT) FROM traffic WHERE `+forgotten+` GROUP BY month, key_id
		ON CONFLICT (month, key_id, device_id) DO UPDATE SET bytes = traffic.bytes + excluded.bytes`); err != nil {
		return 0, err
	}
	_, err = q.exec(ctx, "DELETE FROM traffic WHERE "+forgotten)
	return int(n), err
}

func (q *queries) Traffic(ctx context.Context, m control.Month) ([]control.Traffic, error) {
	return all(ctx, q, scanTraffic, "SELECT key_id, device_id, bytes FROM traffic WHERE month = $1", int64(m))
}

// AddTraffic leaves nothing behind in the write-ahead log: from one commit's totals to the next's, that would tell who
// was there at the time.
func (q *queries) AddTraffic(ctx context.Context, m control.Month, carried []control.Traffic) error {
	add, err := q.tx.PrepareContext(ctx, `INSERT INTO traffic (month, key_id, device_id, bytes)
		SELECT $1, id, coalesce((SELECT id FROM device WHERE id = $3), ''), $4 FROM access_key WHERE id = $2
		ON CONFLICT (month, key_id, device_id) DO UPDATE SET bytes = traffic.bytes + excluded.bytes`)
	if err != nil {
		return q.wrap(err)
	}
	defer add.Close()
	for _, c := range carried {
		if _, err := add.ExecContext(ctx, int64(m), hexOf(c.KeyID[:]), c.Device.String(), c.Bytes); err != nil {
			return q.wrap(err)
		}
	}
	q.scrub = true
	return nil
}

func (q *queries) DeleteTraffic(ctx context.Context, m control.Month) error {
	n, err := q.exec(ctx, "DELETE FROM traffic WHERE month < $1", int64(m))
	if n > 0 {
		q.scrub = true
	}
	return err
}

// exec returns how many rows were changed.
func (q *queries) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := q.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, q.wrap(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, q.wrap(err)
	}
	return n, nil
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(to ...any) error }

// scanFunc makes one row what control calls it.
type scanFunc[T any] func(scanner) (T, error)

// one returns the row that query finds, or absent.
func one[T any](ctx context.Context, q *queries, scan scanFunc[T], absent error, query string, args ...any) (T, error) {
	row, err := scan(q.tx.QueryRowContext(ctx, query, args...))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row, absent
	case err != nil:
		return row, q.wrap(err)
	}
	return row, nil
}

// all returns every row that query finds.
func all[T any](ctx context.Context, q *queries, scan scanFunc[T], query string, args ...any) ([]T, error) {
	rows, err := q.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, q.wrap(err)
	}
	defer rows.Close()
	var found []T
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, q.wrap(err)
		}
		found = append(found, row)
	}
	if err := rows.Err(); err != nil {
		return nil, q.wrap(err)
	}
	return found, nil
}

func scanKey(row scanner) (control.AccessKey, error) {
	var k control.AccessKey
	var id string
	var expires int64
	if err := row.Scan(&id, &k.Name, &k.MaxDevices, &expires, &k.Limit, &k.Revoked); err != nil {
		return control.AccessKey{}, err
	}
	if expires != 0 {
		k.Expires = time.Unix(expires, 0).UTC()
	}
	return k, unhex(k.ID[:], id)
}

func scanDevice(row scanner) (control.Device, error) {
	var d control.Device
	var id, keyID string
	var expiresDay int64
	if err := row.Scan(&id, &keyID, &expiresDay, &d.Revoked); err != nil {
		return control.Device{}, err
	}
	d.Expires = time.Unix(expiresDay*secondsPerDay, 0).UTC()
	return d, errors.Join(unhex(d.ID[:], id), unhex(d.KeyID[:], keyID))
}

func scanTraffic(row scanner) (control.Traffic, error) {
	var t control.Traffic
	var keyID, id string
	if err := row.Scan(&keyID, &id, &t.Bytes); err != nil {
		return control.Traffic{}, err
	}
	if id != "" {
		if err := unhex(t.Device[:], id); err != nil {
			return control.Traffic{}, err
		}
	}
	return t, unhex(t.KeyID[:], keyID)
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func unhex(to []byte, from string) error {
	b, err := hex.DecodeString(from)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%w: id %q is not %d hexadecimal digits", ErrCorrupt, from, 2*len(to))
	}
	copy(to, b)
	return nil
}

// seconds since 1970, 0 for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// days since 1970, rounded up: what a device's row may say of time.
func days(t time.Time) int64 { return (t.Unix() + secondsPerDay - 1) / secondsPerDay }
