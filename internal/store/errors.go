package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What can be wrong with a database that its operator can mend.
var (
	ErrNewer       = errors.New("it was made by a newer Godwit: update this one")
	ErrNotDatabase = errors.New("it is not a Godwit database: give another path, or move the file away")
	ErrCorrupt     = errors.New("it is damaged: restore it from a backup")
	ErrFull        = errors.New("the disk is full: free some space")
	ErrUnwritable  = errors.New("it cannot be written: check the owner and mode of the file and of its directory")
	ErrBusy        = errors.New("another program keeps it locked: end that program or try again")
	ErrDisk        = errors.New("the disk fails: see the system's log")
	ErrClosed      = errors.New("it has been closed")
)

// explain puts the matching one of the above in front of err; other errors, a context's among them, stay as they are.
func explain(err error) error {
	if known := classify(err); known != nil {
		return fmt.Errorf("%w (%w)", known, err)
	}
	return err
}

func classify(err error) error {
	switch {
	case errors.Is(err, sql.ErrConnDone), err != nil && err.Error() == "sql: database is closed":
		return ErrClosed // the latter is not exported
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EISDIR):
		return ErrUnwritable
	case errors.Is(err, syscall.ENOSPC):
		return ErrFull
	}
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE {
		return ErrFull // the index of the write-ahead log could not grow
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_NOTADB:
		return ErrNotDatabase
	case sqlite3.SQLITE_CORRUPT:
		return ErrCorrupt
	case sqlite3.SQLITE_FULL:
		return ErrFull
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return ErrUnwritable
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrBusy
	case sqlite3.SQLITE_IOERR:
		return ErrDisk
	}
	return nil
}

// primaryCode is SQLite's result code without the details above its low byte; 0 if err is not SQLite's.
func primaryCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool { return primaryCode(err) == sqlite3.SQLITE_BUSY }

// isUnique reports whether a unique index refused a row.
func isUnique(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}
