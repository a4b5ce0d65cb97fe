package supervise

import (
	"errors"
	"fmt"
	"os"

	"cloison/format/service"
	"cloison/linux/quota"
	"cloison/target/state"
)

// own is what the folders of a service themselves take of its share: one block
// and one file each.
func own(d *service.Service) quota.Limits {
	folders := uint64(1 + len(d.State))
	return quota.Limits{Bytes: folders * 4096, Files: folders}
}

// share gives each service its share of the state volume: what lies in its folder
// belongs to a project with the service's own number, and the project has limits.
// PID 1 itself and who keeps nothing there have none.
//
// A volume that a release without quotas made has none: see
// docs/decisions/0021-quotas.md.
func (s *supervisor) share(all []*service.Service) error {
	counted, held, err := quota.Enforced(state.Folder)
	switch {
	case err != nil:
		return err
	case !counted:
		s.say("state volume: NO LIMITS of what services keep, for a release without them has made it")
		return nil
	case !held:
		return errors.New("the kernel counts what services keep on the state volume, and does not hold them to their limits")
	}
	s.state.shared = true
	for _, d := range all {
		if len(d.State) == 0 {
			continue
		}
		folder, most := service.StateFolder(d.Name), own(d)
		most.Bytes += uint64(d.Limits.State)
		most.Files += uint64(d.Limits.StateFiles)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("cannot make the state folder of %s: %w", d.Name, err)
		}
		if err := quota.Assign(folder, d.ID); err != nil {
			return err
		}
		if err := quota.Limit(state.Folder, d.ID, most); err != nil {
			return err
		}
	}
	return nil
}

// kept is how much of its share a service has taken.
func (s *supervisor) kept(d *service.Service) (quota.Usage, error) {
	if !s.state.shared || len(d.State) == 0 {
		return quota.Usage{}, nil
	}
	u, _, err := quota.Use(state.Folder, d.ID)
	return quota.Usage{Bytes: u.Bytes - min(u.Bytes, own(d).Bytes), Files: u.Files - min(u.Files, own(d).Files)}, err
}
