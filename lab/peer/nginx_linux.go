package peer

import (
	"context"
	"fmt"
	"path/filepath"
)

// What clients know of a front: its name, and the certificate, which is its own authority.
const (
	frontName = "front.example"
	frontCert = "front/cert.pem"
)

// behindNginx makes Godwit by websocket one that has Debian's nginx before it.
func behindNginx(e Entry) Entry {
	prepare := e.Prepare
	e.Prepare = func(ctx context.Context, t *Tools) (Info, error) {
		info, err := prepare(ctx, t)
		if err != nil {
			return info, err
		}
		path, err := debian("nginx", "nginx-light")
		if err != nil {
			return info, err
		}
		info.Version += ", " + firstLine(ctx, path, "-v")
		info.Settings += ", behind nginx on the gateway's host"
		return info, nil
	}
	e.New = func(t *Tools) Peer { return &godwit{path: t.Godwit, transport: byWebSocket, nginx: true} }
	return e
}

// upstream is where it finds the gateway, which nobody else does.
const (
	upstream     = "127.0.0.1:8443"
	upstreamPort = 8443
)

// nginx runs one on the gateway's host that passes everything on to the gateway, as docs/fronts.md has it.
func nginx(ctx context.Context, s *Site) (*Process, error) {
	path, err := debian("nginx", "nginx-light")
	if err != nil {
		return nil, err
	}
	cert, key, err := SelfSigned(frontName)
	if err != nil {
		return nil, err
	}
	certPath, err := s.write(frontCert, cert)
	if err != nil {
		return nil, err
	}
	keyPath, err := s.write("front/key.pem", key)
	if err != nil {
		return nil, err
	}
	config, err := s.write("front/nginx.conf", fmt.Appendf(nil, `daemon off; master_process off; user root; pid %[1]s/pid;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b;
	fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
	server {
		listen %[2]s ssl;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		location / {
			proxy_pass https://%[5]s;
			proxy_http_version 1.1;
			proxy_set_header Host $host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_read_timeout 60s;
		}
	}
}
`, filepath.Join(s.Dir, "front"), s.at(godwitPort), certPath, keyPath, upstream))
	if err != nil {
		return nil, err
	}
	p, err := s.start(s.Gateway, "front", nil, path, "-c", config, "-e", "stderr")
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Gateway, "tcp", godwitPort)
}
