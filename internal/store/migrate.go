package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
)

// The migrations are applied in the order of their names, each once, and never edited after a release: the n-th brings
// a database from version n-1 to n.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks a SQLite file as Godwit's: "gdwt" in ASCII.
const applicationID = 0x67647774

// check refuses a database that is another program's, or a newer Godwit's, and says whether it is up to date. It only
// reads.
func check(ctx context.Context, db *sql.DB, files fs.FS) (current bool, err error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	names, _, err := pending(ctx, tx, files)
	return len(names) == 0, err
}

// migrate brings a database that has passed check up to date, in one transaction.
func migrate(ctx context.Context, db *sql.DB, files fs.FS) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	names, version, err := pending(ctx, tx, files) // asked again, now that nobody else can migrate
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(script)); err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	mark := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version+len(names))
	if _, err := tx.ExecContext(ctx, mark); err != nil {
		return err
	}
	return tx.Commit()
}

// pending returns those of the migrations in files that the database, which is at version, has not had.
func pending(ctx context.Context, tx *sql.Tx, files fs.FS) (names []string, version int, err error) {
	if names, err = fs.Glob(files, "migrations/*.sql"); err != nil { // sorted
		return nil, 0, err
	}
	var application, objects int
	for _, q := range []struct {
		query string
		to    *int
	}{
		{"PRAGMA application_id", &application},
		{"PRAGMA user_version", &version},
		{"SELECT count(*) FROM sqlite_schema", &objects},
	} {
		if err := tx.QueryRowContext(ctx, q.query).Scan(q.to); err != nil {
			return nil, 0, err
		}
	}
	empty := application == 0 && version == 0 && objects == 0
	switch {
	case application != applicationID && !empty, version < 0:
		return nil, 0, ErrNotDatabase
	case version > len(names):
		return nil, 0, fmt.Errorf("%w (schema %d, this program knows up to %d)", ErrNewer, version, len(names))
	}
	return names[version:], version, nil
}
