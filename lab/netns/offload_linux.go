package netns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the features, by the kernel's names, that let a frame be longer than the MTU or leave its checksum to
// the hardware. Prefixes: tx-tcp covers all of TSO.
var offloads = []string{
	"tx-tcp", "tx-udp-segmentation", "tx-generic-segmentation", "tx-gso", "tx-sctp-segmentation", "tx-checksum",
	"rx-gro", "rx-udp-gro", "rx-lro",
}

// OffloadsOff turns off everything that makes frames longer than the MTU or leaves checksums unfinished, and checks.
func (h *Host) OffloadsOff(dev string) error {
	return h.withLink(dev, "offloads off", func(*net.Interface) error {
		names, err := featureNames(dev)
		if err != nil {
			return err
		}
		blocks := (len(names) + 31) / 32
		// struct ethtool_sfeatures: cmd, size u32; {valid, requested u32}...
		set := make([]byte, 8+8*blocks)
		binary.NativeEndian.PutUint32(set, unix.ETHTOOL_SFEATURES)
		binary.NativeEndian.PutUint32(set[4:], uint32(blocks))
		for i, name := range names {
			if isOffload(name) {
				at := 8 + 8*(i/32)
				v := binary.NativeEndian.Uint32(set[at:])
				binary.NativeEndian.PutUint32(set[at:], v|1<<(i%32))
			}
		}
		if err := ethtool(dev, set); err != nil {
			return fmt.Errorf("set features: %w", err)
		}
		on, err := features(dev, names)
		if err != nil {
			return err
		}
		for _, name := range on {
			if isOffload(name) {
				return fmt.Errorf("%s stays on", name)
			}
		}
		return nil
	})
}

func isOffload(name string) bool {
	for _, p := range offloads {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// ethSSFeatures selects the feature names among a driver's string sets (ETH_SS_FEATURES).
const ethSSFeatures = 4

// featureNames lists the kernel's names of the features, in the order of their bits.
func featureNames(dev string) ([]string, error) {
	const nameLen = 32 // ETH_GSTRING_LEN
	// struct ethtool_sset_info: cmd, reserved u32; mask u64; {count u32}...
	info := make([]byte, 20)
	binary.NativeEndian.PutUint32(info, unix.ETHTOOL_GSSET_INFO)
	binary.NativeEndian.PutUint64(info[8:], 1<<ethSSFeatures)
	if err := ethtool(dev, info); err != nil {
		return nil, fmt.Errorf("count features: %w", err)
	}
	n := int(binary.NativeEndian.Uint32(info[16:]))
	// struct ethtool_gstrings: cmd, set, len u32; names.
	b := make([]byte, 12+n*nameLen)
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GSTRINGS)
	binary.NativeEndian.PutUint32(b[4:], ethSSFeatures)
	binary.NativeEndian.PutUint32(b[8:], uint32(n))
	if err := ethtool(dev, b); err != nil {
		return nil, fmt.Errorf("name features: %w", err)
	}
	names := make([]string, n)
	for i := range names {
		name, _, _ := bytes.Cut(b[12+i*nameLen:12+(i+1)*nameLen], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

// features lists those that are on.
func features(dev string, names []string) (on []string, err error) {
	blocks := (len(names) + 31) / 32
	// struct ethtool_gfeatures: cmd, size u32; {available, requested, active, never_changed u32}...
	b := make([]byte, 8+16*blocks)
	binary.NativeEndian.PutUint32(b, unix.ETHTOOL_GFEATURES)
	binary.NativeEndian.PutUint32(b[4:], uint32(blocks))
	if err := ethtool(dev, b); err != nil {
		return nil, fmt.Errorf("get features: %w", err)
	}
	for i, name := range names {
		if binary.NativeEndian.Uint32(b[8+16*(i/32)+8:])&(1<<(i%32)) != 0 {
			on = append(on, name)
		}
	}
	return on, nil
}

// ethtool passes arg, which the kernel fills in, to the interface's driver.
func ethtool(dev string, arg []byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// struct ifreq with a pointer in its union.
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	req.data = unsafe.Pointer(&arg[0])
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
