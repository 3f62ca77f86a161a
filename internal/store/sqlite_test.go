package store_test

import (
	"path/filepath"
	"testing"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/store"
	"github.com/godwit-vpn/godwit/internal/store/storetest"
)

func open(t testing.TB, path string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Database {
		path := filepath.Join(t.TempDir(), "godwit.db")
		return func(t testing.TB) control.Store { return open(t, path) }
	})
}
