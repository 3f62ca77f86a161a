package e2e

import "testing"

// hostFirewall is what ufw, firewalld and most rules of people's own come to on a machine that serves nothing: what answers it comes
// in, and nothing else.
const hostFirewall = `table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
		iif lo accept
		ct state established,related accept
		ct state invalid drop
	}
	chain forward { type filter hook forward priority 0; policy drop; }
	chain output { type filter hook output priority 0; policy accept; }
}`

// TestHostFirewall carries a machine that has a firewall of its own.
func TestHostFirewall(t *testing.T) {
	w, _ := withMachine(t)
	w.client.run(t, hostFirewall, "nft", "-f", "-")
	w.clientProcess = w.startClient(w.key, "--tun")
	urls := []string{"https://site.test/hello", "http://" + webAddr + "/hello"}
	if w.ipv6 {
		urls = append(urls, "https://["+webAddr6+"]/hello")
	}
	for _, url := range urls {
		if err := w.fetch(url); err != nil {
			t.Error(err)
		}
	}
	w.udpEcho(9000)
}
