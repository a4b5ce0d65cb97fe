package service

import (
	"errors"
	"fmt"
	"strings"
)

// IDs is the allotment of users to services, image/services/ids: one "NAME ID"
// a line, in order of the numbers, comments after #. A number is never given to
// another service: files on the state volume belong to it.
type IDs map[string]uint32

// ParseIDs reads the allotment.
func ParseIDs(text string) (IDs, error) {
	ids, last := IDs{}, uint64(MinID-1)
	for number, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		err := errors.New("not a name and a number")
		if len(fields) == 2 && isName(fields[0]) {
			var id uint64
			if id, err = decimal(fields[1], MaxID); err == nil {
				if id <= last {
					err = fmt.Errorf("%d does not come after %d", id, last)
				} else if _, ok := ids[fields[0]]; ok {
					err = fmt.Errorf("%s has a number already", fields[0])
				}
			}
			ids[fields[0]], last = uint32(id), id
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
	}
	return ids, nil
}
