package device

import "github.com/godwit-vpn/godwit/internal/device/secretfile"

// What a client's directory holds of its device under one access key.
const (
	KeyFile         = "device.key"
	CertificateFile = "device.cert"

	certificateKind = "godwit device certificate v1"
)

// LoadCertificate reads a certificate's file. One that is absent matches fs.ErrNotExist.
func LoadCertificate(path string) ([]byte, error) {
	return secretfile.Read(path, certificateKind, CertificateSize)
}

// SaveCertificate writes a certificate's file, whole or not at all.
func SaveCertificate(path string, cert []byte) error {
	return secretfile.Write(path, certificateKind, cert)
}
