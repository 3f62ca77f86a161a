package peer

import (
	"context"
	"encoding/json"
)

// shadowsocks is shadowsocks-libev at both ends, TCP only.
type shadowsocks struct{ cipher, password string }

func shadowsocksEntry(name, cipher string) Entry {
	return Entry{
		Name: name,
		Prepare: func(ctx context.Context, _ *Tools) (Info, error) {
			if err := needAll("ss-server", "shadowsocks-libev", "ss-local", "shadowsocks-libev"); err != nil {
				return Info{}, err
			}
			path, _ := debian("ss-server", "shadowsocks-libev")
			return Info{Version: firstLine(ctx, path, "-h"), Settings: cipher + ", no plugin; SOCKS5 in"}, nil
		},
		Check: nothingToCheck,
		New:   func(*Tools) Peer { return &shadowsocks{cipher: cipher, password: randomHex(16)} },
	}
}

const shadowsocksPort = 8388

func (x *shadowsocks) Proxy() string { return socksAddr }

func (x *shadowsocks) Gateway(ctx context.Context, s *Site) (*Process, error) {
	p, err := x.run(s, "ss-server", "gateway", object{})
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Gateway, "tcp", shadowsocksPort)
}

func (x *shadowsocks) Client(_ context.Context, s *Site) (*Process, error) {
	return x.run(s, "ss-local", "client", object{"local_address": "127.0.0.1", "local_port": socksPort})
}

func (x *shadowsocks) run(s *Site, program, role string, conf object) (*Process, error) {
	conf["server"], conf["server_port"] = s.GatewayAddr.String(), shadowsocksPort
	conf["method"], conf["password"] = x.cipher, x.password
	text, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	file, err := s.write(role+".json", text)
	if err != nil {
		return nil, err
	}
	path, err := debian(program, "shadowsocks-libev")
	if err != nil {
		return nil, err
	}
	h := s.Client
	if role == "gateway" {
		h = s.Gateway
	}
	return s.start(h, role, nil, path, "-c", file)
}
