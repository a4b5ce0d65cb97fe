package boot

import "cloison/linux/mount"

// tools is the root directory of the core's C programs, which make and open the
// state volume. They are not in the initramfs: there each boot would unpack
// them, and each UKI bring them along, where here dm-verity checks the blocks
// that are read, and an update leaves out those that did not change.
const tools = newRoot + "/usr/lib/cloison/storage"

// toolFolders is where they expect to stand.
var toolFolders = []string{"/usr", "/lib64"}

// showTools has them appear in the initramfs.
func showTools() error {
	for _, at := range toolFolders {
		if err := mount.Bind(tools+at, at); err != nil {
			return err
		}
	}
	return nil
}

func hideTools() error {
	for _, at := range toolFolders {
		if err := mount.Unmount(at); err != nil {
			return err
		}
	}
	return nil
}
