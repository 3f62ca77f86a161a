package e2e

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https"
)

// nginx runs as the only user there is in the namespaces of tests that are not root's.
const nginxConf = `
user root;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen 127.0.0.1:443 ssl http2;
		ssl_protocols TLSv1.3;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		location / { return 200 "a page"; }
	}
}
`

// Debian's nginx with its OpenSSL, behind which a CDN or another's website may be, answers whichever way the hello is cut.
func TestFragmentsAtNginx(t *testing.T) {
	needNamespaces(t)
	need(t, "nginx")
	h := newHost(t, "fragments")
	dir := t.TempDir()
	cert := (&site{ca: filepath.Join(dir, "ca.pem")}).certificate(t)
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nginx.conf": fmt.Appendf(nil, nginxConf, dir),
		"cert.pem":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := h.command("nginx", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	dial := func() (c net.Conn, err error) {
		for range 100 { // until it listens
			if err = h.do(func() error { c, err = net.Dial("tcp", "127.0.0.1:443"); return err }); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		return c, err
	}
	for _, how := range []transport.Fragment{transport.FragmentNone, transport.FragmentTCP, transport.FragmentRecord, transport.FragmentBoth} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		v, err := https.Look(t.Context(), c, transport.Endpoint{Addr: "127.0.0.1:443", Name: recorderName, Fragment: how})
		if err != nil {
			t.Errorf("cut %v: %v", how, err)
		} else if v.Page.Status != http.StatusOK || string(v.Page.Body) != "a page" {
			t.Errorf("cut %v: %d %q", how, v.Page.Status, v.Page.Body)
		}
	}
}
