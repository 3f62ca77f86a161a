package cli

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/control"
)

func (a *app) deviceCmd() *cobra.Command {
	return group("device", "list and revoke devices", a.deviceListCmd(), a.deviceRevokeCmd())
}

// deviceDoc is a device as --json shows it: all that is kept of it.
type deviceDoc struct {
	ID      string    `json:"id"`
	Key     string    `json:"key"`
	KeyID   string    `json:"key_id"`
	State   string    `json:"state"` // good, expired, revoked
	Expires time.Time `json:"expires"`
	// MonthBytes is what it carried this month.
	MonthBytes int64 `json:"month_bytes"`
}

func (a *app) deviceListCmd() *cobra.Command {
	var f gatewayFlags
	var keyName string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the devices that enrolled", Args: noArgs,
		Long: `Lists the devices that enrolled and were not forgotten. A device renews its
certificate while it is used; one that has expired can come back as long as its
access key is good, and is forgotten after a month. What they carried this
month (UTC) is both directions added.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			var filter control.DeviceFilter
			if keyName != "" {
				k, err := keyNamed(cmd.Context(), d, keyName)
				if err != nil {
					return fmt.Errorf("flag --key: %w", err)
				}
				filter.KeyID = k.ID
			}
			keys, err := d.Control.Keys(cmd.Context())
			if err != nil {
				return err
			}
			names := make(map[[8]byte]control.AccessKey)
			for _, k := range keys {
				names[k.ID] = k
			}
			devices, err := d.Control.Devices(cmd.Context(), filter)
			if err != nil {
				return err
			}
			now := time.Now()
			month, err := d.Control.Totals(cmd.Context(), now)
			if err != nil {
				return err
			}
			docs := []deviceDoc{}
			for _, v := range devices {
				k := names[v.KeyID]
				state := stateGood
				switch {
				case v.Revoked || k.Revoked:
					state = stateRevoked
				case !now.Before(v.Expires) || keyState(k, now) != stateGood:
					state = stateExpired
				}
				docs = append(docs, deviceDoc{v.ID.String(), k.Name, hex.EncodeToString(v.KeyID[:]), state, v.Expires.UTC(),
					month.Devices[v.ID]})
			}
			if asJSON {
				return a.printJSON(struct {
					Schema  string      `json:"schema"`
					Devices []deviceDoc `json:"devices"`
				}{"godwit.device.list/1", docs})
			}
			rows := [][]string{{"DEVICE", "ACCESS KEY", "STATE", "CERTIFICATE UNTIL", "THIS MONTH"}}
			for _, doc := range docs {
				rows = append(rows, []string{doc.ID, doc.Key, doc.State, doc.Expires.Format(time.DateOnly),
					size(doc.MonthBytes)})
			}
			a.stdout.table(rows)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&keyName, "key", "", "only those of this access key")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) deviceRevokeCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "shut out one device, for good", Args: oneArg,
		Long: `Shuts out one device for good, by its id or the beginning of it. Its place is free
then: whoever holds the access key can enrol another device. To shut out a
person, revoke the key.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			v, err := d.Control.RevokeDevice(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s Device %s is revoked.\n", a.stdout.paint(good, "✓"), v.ID)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
