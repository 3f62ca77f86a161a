package hostnet

// Captured reports whether this machine's network is Godwit's, and by which process: 0 if that one has died, or if this user
// may not know. It changes nothing, and takes no privilege: the routing rules are for everybody to read.
func Captured(stateDir string) (captured bool, pid int) {
	for _, family := range families {
		if have, err := ourRules(family); err == nil && len(have) > 0 {
			return true, holder(stateDir)
		}
	}
	return false, 0
}
