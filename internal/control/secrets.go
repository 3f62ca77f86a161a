package control

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
)

// Secrets is what makes a network this network and no other. It lives in four files of the state directory:
//
//	keys/network        8 bytes: the network's id, no secret, but written last: its presence says the others were
//	keys/door.key       32 bytes: every access key's door secret follows from it, and the website
//	keys/control.key    Ed25519: signs device certificates
//	keys/directory.key  Ed25519: signs the directory of gateways, and browsers' profiles
//
// It never prints and cannot be compared. Safe for concurrent use.
type Secrets struct {
	_         [0]func() // not comparable
	network   [8]byte
	door      [32]byte
	control   ed25519.PrivateKey
	directory ed25519.PrivateKey
}

// ErrNoSecrets is matched when the state directory has no network in it yet.
var ErrNoSecrets = errors.New("there is no network here yet: run 'godwit gateway init'")

// ErrSecretsLost is matched when a network is there but one of its secrets is gone.
var ErrSecretsLost = errors.New("a secret of this network is missing: restore the keys directory from a backup")

// DoorSecretSize is the length of a door secret, in bytes.
const DoorSecretSize = 16

type secretKind struct {
	file, kind string
	size       int
}

var (
	networkFile   = secretKind{"network", "godwit network id v1", 8}
	doorFile      = secretKind{"door.key", "godwit door key v1", 32}
	controlFile   = secretKind{"control.key", "godwit control key v1", ed25519.SeedSize}
	directoryFile = secretKind{"directory.key", "godwit directory key v1", ed25519.SeedSize}
)

// InitSecrets makes a network's secrets from rand, which is crypto/rand's Reader outside tests, or loads those that are
// there. It finishes what a crashed one began, and of several at once all return the same secrets. A secret that was
// lost later is never made anew: that would be another network under the old one's name.
func InitSecrets(stateDir string, rand io.Reader) (*Secrets, error) {
	dir := keysDir(stateDir)
	if err := secretfile.Dir(dir); err != nil {
		return nil, fmt.Errorf("make the network's secrets: %w", err)
	}
	_, err := os.Stat(filepath.Join(dir, networkFile.file))
	if err == nil {
		return LoadSecrets(stateDir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the network's secrets: %w", err)
	}
	for _, k := range []secretKind{doorFile, controlFile, directoryFile, networkFile} {
		secret := make([]byte, k.size)
		if _, err := io.ReadFull(rand, secret); err != nil {
			return nil, fmt.Errorf("make the network's secrets: %w", err)
		}
		err := secretfile.Create(filepath.Join(dir, k.file), k.kind, secret)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the network's secrets: %w", err)
		}
	}
	return LoadSecrets(stateDir)
}

// LoadSecrets reads what InitSecrets made. It refuses files, or a directory, that other users could have read.
func LoadSecrets(stateDir string) (*Secrets, error) {
	dir := keysDir(stateDir)
	read := func(k secretKind) ([]byte, error) {
		return secretfile.Read(filepath.Join(dir, k.file), k.kind, k.size)
	}
	if err := secretfile.CheckDir(dir); err != nil {
		return nil, loadError(err, ErrNoSecrets)
	}
	network, err := read(networkFile)
	if err != nil {
		return nil, loadError(err, ErrNoSecrets)
	}
	s := &Secrets{network: [8]byte(network)}
	door, err := read(doorFile)
	if err != nil {
		return nil, loadError(err, ErrSecretsLost)
	}
	s.door = [32]byte(door)
	for _, k := range []struct {
		secretKind
		to *ed25519.PrivateKey
	}{{controlFile, &s.control}, {directoryFile, &s.directory}} {
		seed, err := read(k.secretKind)
		if err != nil {
			return nil, loadError(err, ErrSecretsLost)
		}
		*k.to = ed25519.NewKeyFromSeed(seed)
	}
	return s, nil
}

// loadError puts absent in front of an err that says a file is not there.
func loadError(err, absent error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("load the network's secrets: %w (%w)", absent, err)
	}
	return fmt.Errorf("load the network's secrets: %w", err)
}

func keysDir(stateDir string) string { return filepath.Join(stateDir, "keys") }

// Network is the network's id. It is no secret.
func (s *Secrets) Network() [8]byte { return s.network }

// DoorSecret is the door secret of the access key with this id: HKDF-SHA256 of the door key, without salt, with
// "godwit door secret v1" || id as info. It is computed for any id alike, known, revoked or made up, so that the door
// takes the same time for all of them and a gateway stores nothing per user.
func (s *Secrets) DoorSecret(keyID [8]byte) [DoorSecretSize]byte {
	secret, err := hkdf.Key(sha256.New, s.door[:], nil, "godwit door secret v1"+string(keyID[:]), DoorSecretSize)
	if err != nil {
		panic(err) // only for a length beyond 255 hashes
	}
	return [DoorSecretSize]byte(secret)
}

// WebsiteSeed is what the website that strangers see is made from: HKDF-SHA256 of the door key, without salt, with
// "godwit website seed v1" as info. Whoever learns it learns nothing of the door key.
func (s *Secrets) WebsiteSeed() [32]byte {
	seed, err := hkdf.Key(sha256.New, s.door[:], nil, "godwit website seed v1", 32)
	if err != nil {
		panic(err) // only for a length beyond 255 hashes
	}
	return [32]byte(seed)
}

// RelayKey is the secret of the relay of this name: HKDF-SHA256 of the door key, without salt, with "godwit relay key v1"
// || name as info. It is all that a relay holds, and nothing else follows from it.
func (s *Secrets) RelayKey(name string) [32]byte {
	key, err := hkdf.Key(sha256.New, s.door[:], nil, "godwit relay key v1"+name, 32)
	if err != nil {
		panic(err) // only for a length beyond 255 hashes
	}
	return [32]byte(key)
}

// ControlKey is the public half of the key that signs device certificates.
func (s *Secrets) ControlKey() ed25519.PublicKey { return publicCopy(s.control) }

// DirectoryKey is the public half of the key that signs what the directory carries.
func (s *Secrets) DirectoryKey() ed25519.PublicKey { return publicCopy(s.directory) }

// DirectorySigner signs what the directory carries, and nothing else: browsers' profiles, and the list of gateways when there
// is one. Each text says in its first line what it is, so that none can be taken for another.
func (s *Secrets) DirectorySigner() crypto.Signer { return signer{key: s.directory} }

func (s *Secrets) signCertificate(c *device.Certificate) ([]byte, error) { return c.Sign(s.control) }

func publicCopy(k ed25519.PrivateKey) ed25519.PublicKey {
	return append(ed25519.PublicKey(nil), k[ed25519.SeedSize:]...)
}

// signer hands out the power to sign without the key.
type signer struct {
	_   [0]func()
	key ed25519.PrivateKey
}

func (s signer) Public() crypto.PublicKey { return publicCopy(s.key) }

func (s signer) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(rand, message, opts)
}

const redacted = "network secrets (hidden)"

// Format keeps the secrets out of every fmt verb.
func (Secrets) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue keeps the secrets out of logs.
func (Secrets) LogValue() slog.Value { return slog.StringValue(redacted) }

func (signer) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
