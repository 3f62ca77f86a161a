package client_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// A client heeds a file of rules: what is direct is dialled from here, and what is blocked by nobody.
func TestRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(t)
	echo := echoServer(t)
	file := filepath.Join(t.TempDir(), "rules.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[[rule]]\ndomains = [\"direct.example\"]\ncidrs = [\"127.0.0.0/8\"]\naction = \"direct\"\n" +
		"[[rule]]\ndomains = [\"blocked.example\"]\naction = \"block\"\n")
	c, err := client.New(client.Config{Key: w.key, Rules: file})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	if _, err := c.Dial(t.Context(), "tcp", "www.blocked.example:443"); flow.CodeOf(err) != flow.CodeDenied {
		t.Errorf("what a rule blocks: %v", err)
	}
	conn, err := c.Dial(t.Context(), "tcp", echo)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.RemoteAddr().String(); got != echo {
		t.Errorf("a direct connection is to %s", got)
	}
	want := make([]byte, 1<<20)
	rand.Read(want)
	go func() {
		conn.Write(want)
		conn.(flow.Stream).CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	conn.Close()

	// Other rules count at once, and those with a mistake do not.
	write("[[rule]]\nports = [\"443\"]\naction = \"block\"\n")
	if err := c.SetRules(file); err != nil {
		t.Fatal(err)
	}
	write("[[rule]]\naction = \"nonsense\"\n")
	if err := c.SetRules(file); err == nil {
		t.Error("a file of nonsense was taken")
	}
	if _, err := c.Dial(t.Context(), "tcp", "192.0.2.1:443"); flow.CodeOf(err) != flow.CodeDenied {
		t.Errorf("what other rules block: %v", err)
	}
	var field *client.FieldError
	if _, err := client.New(client.Config{Key: w.key, Rules: file}); !errors.As(err, &field) || field.Field != "Rules" {
		t.Errorf("a file of nonsense: %v", err)
	}
}
