package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The one who visits the machine's website, from a network that they share.
const (
	visitorAddr  = "203.0.113.99"
	visitorAddr6 = "2001:db8:3::99"
)

// bootScript becomes the first process of a machine. Its root is the real one, with a layer in memory over it that takes
// all changes, and of systemd's units there are those only that a service needs: nothing else of the real machine's
// starts. What the kernel has only one of (devices, settings, clock, modules) can be read at most, but for the network's
// settings, of which the machine has its own; from /sys being read-only, systemd also knows that devices are none of its
// business.
const bootScript = `set -eu
top=$1 binary=$2
mount -t tmpfs -o mode=755 tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
cd "$top/root"

rm -rf etc/systemd etc/godwit var/lib/godwit usr/local/bin/godwit
sed -i '/^godwit:/d' etc/passwd etc/shadow etc/group etc/gshadow
echo 0123456789abcdef0123456789abcdef >etc/machine-id
mkdir -p etc/systemd/system/sysinit.target.wants etc/systemd/none
for name in sysinit.target basic.target sockets.target multi-user.target shutdown.target \
	network-pre.target systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
do
	cp "lib/systemd/system/$name" etc/systemd/system/
done
ln -s ../systemd-journald.service etc/systemd/system/sysinit.target.wants/
echo '[Journal]
Storage=volatile' >etc/systemd/journald.conf

install -m 755 "$binary" usr/local/bin/godwit

mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/net
mknod -m 666 dev/net/tun c 10 200
ln -s pts/ptmx dev/ptmx
mount -t sysfs -o ro sysfs sys
mount -t proc proc proc
for file in proc/sys proc/sysrq-trigger
do
	[ -e "$file" ] || continue
	mount --bind "$file" "$file"
	mount -o remount,bind,ro "$file"
done
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net

exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/etc/systemd/none \
	SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/etc/systemd/none \
	setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog,-audit_control \
	unshare --cgroup \
	chroot . /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=false
`

// A machine is a host that systemd runs.
type machine struct {
	*host
	w       *world
	process *process // its systemd
	cgroup  string   // where that one finds the root of control groups
	unit    string   // the service that is looked at
}

// bootMachine makes a machine and a visitor next to it. All of the machine is in one PID namespace, which ends with the
// test, and in the tests' own, which ends with them: then its mounts, which nobody else sees, end as well.
func bootMachine(t *testing.T, unit string) (*world, *machine) {
	t.Helper()
	needMachine(t)
	binary := godwit(t)
	w := &world{t: t, dir: t.TempDir(), endpoint: net.JoinHostPort(gatewayAddr, gatewayPort)}
	w.client, w.gateway = newHost(t, "visitor"), newHost(t, "machine")
	w.ip(w.client, `
		link add wan type veth peer name wan netns `+w.gateway.name+`
		addr add `+visitorAddr+`/24 dev wan
		link set wan up`)
	w.ip(w.gateway, `
		addr add `+gatewayAddr+`/24 dev wan
		link set wan up`)
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		w.ipv6 = true
		w.ip(w.client, "addr add "+visitorAddr6+"/64 dev wan nodad")
		w.ip(w.gateway, "addr add "+gatewayAddr6+"/64 dev wan nodad")
	}

	m := &machine{host: w.gateway, w: w, cgroup: newCgroup(t), unit: unit}
	group, err := os.Open(m.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = group.Close() }()
	cmd := m.command("sh", "-c", bootScript, "sh", t.TempDir(), binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
	}
	m.process = w.start("systemd", cmd)
	deadline := time.AfterFunc(2*time.Minute, func() {
		t.Error("not done within 2 minutes")
		_ = cmd.Process.Kill()
	})
	t.Cleanup(func() {
		deadline.Stop()
		_ = cmd.Process.Kill()
		<-m.process.done
	})
	w.eventually("systemd has booted", m.process, time.Minute, func() error {
		// Before, root is the real one, where systemctl has no business.
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/systemd/private", cmd.Process.Pid)); err != nil {
			return err
		}
		if code, out := run(t, m.inside("systemctl", "is-active", "multi-user.target")); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	return w, m
}

// needMachine skips the test unless it may boot systemd here.
func needMachine(t *testing.T) {
	t.Helper()
	needNamespaces(t)
	if ids, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.HasSuffix(string(ids), " 1\n") {
		t.Skip("needs root, who can become another user: sudo make test")
	}
	need(t, "ip", "curl", "nsenter", "setpriv", "unshare", "systemctl", "journalctl", "useradd")
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("needs /lib/systemd/systemd: apt-get install systemd")
	}
	// A mount would load it, which changes the machine.
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "\toverlay\n") {
		t.Skip("needs overlayfs: modprobe overlay")
	}
}

// do runs a program on the machine. It must succeed.
func (m *machine) do(args ...string) string {
	m.w.t.Helper()
	code, out := run(m.w.t, m.inside(args...))
	if code != 0 {
		_, journal := run(m.w.t, m.inside("journalctl", "--no-pager", "--lines=40"))
		m.w.t.Fatalf("%q ended with %d: %s\nThe journal:\n%s", args, code, out, journal)
	}
	return out
}

// inside prepares a program to run on the machine, with its root directory.
func (m *machine) inside(args ...string) *exec.Cmd {
	pid := strconv.Itoa(m.process.cmd.Process.Pid)
	return m.command("nsenter", append([]string{"--target", pid, "--all", "--root", "--wd", "--"}, args...)...)
}

// show is what systemd says of the service.
func (m *machine) show(property string) string {
	m.w.t.Helper()
	return strings.TrimSpace(m.do("systemctl", "show", "--value", "--property="+property, m.unit))
}

// processes are the service's, by their number on the machine, with that which they have here.
func (m *machine) processes() map[string]int {
	m.w.t.Helper()
	list, err := os.ReadFile(filepath.Join(m.cgroup, "system.slice", m.unit+".service", "cgroup.procs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
		m.w.t.Fatal(err)
	}
	found := map[string]int{}
	for _, field := range strings.Fields(string(list)) {
		pid, _ := strconv.Atoi(field)
		if ids := strings.Fields(processStatus(pid)["NSpid"]); len(ids) > 0 {
			found[ids[len(ids)-1]] = pid
		}
	}
	return found
}

// processStatus is /proc's, nil if the process has ended.
func processStatus(pid int) map[string]string {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	fields := map[string]string{}
	for s := bufio.NewScanner(file); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// confined makes sure that the service's processes have the one right that the unit leaves them, and no more. Root's are
// born with it, a user's inherit it.
func (m *machine) confined(user string, capability int) {
	m.w.t.Helper()
	uid, gid := strings.TrimSpace(m.do("id", "-u", user)), strings.TrimSpace(m.do("id", "-g", user))
	rights, inherited := fmt.Sprintf("%016x", 1<<capability), fmt.Sprintf("%016x", 0)
	if user != "root" {
		inherited = rights
	}
	processes := m.processes()
	if len(processes) == 0 {
		m.w.t.Error("the service has no process")
	}
	for number, pid := range processes {
		status := processStatus(pid)
		for field, want := range map[string]string{
			"Uid": strings.Join([]string{uid, uid, uid, uid}, " "), "Gid": strings.Join([]string{gid, gid, gid, gid}, " "),
			"CapInh": inherited, "CapPrm": rights, "CapEff": rights, "CapBnd": rights, "CapAmb": inherited,
			"NoNewPrivs": "1",
			"Seccomp":    "2", // filters
		} {
			if got := status[field]; got != want {
				m.w.t.Errorf("process %s has %s %q, not %q", number, field, got, want)
			}
		}
	}
}
