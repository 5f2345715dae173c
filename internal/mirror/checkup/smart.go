package checkup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
)

// SMART is what a disk says of itself, as far as smartctl tells. A pointer that is nil was
// not told.
type SMART struct {
	Device, Model string
	Passed        *bool // its own verdict

	// Of ATA disks: sectors that were replaced, that wait for it, and that could not be
	// read (attributes 5, 197 and 198).
	Reallocated, Pending, Uncorrectable *int64

	// Of NVMe disks: how much of the spare blocks is left, and how much is the least, in
	// percent; errors that could not be corrected; and the bits of the critical warning.
	Spare, SpareLeast, MediaErrors, Critical *int64

	// Used is how much of the life of flash is over, in percent; it may be over 100.
	Used *int64
	// Celsius is the temperature.
	Celsius *int64
}

// smartJSON is what smartctl prints with --json (smartmontools 7.0 and newer).
type smartJSON struct {
	Device struct {
		Name string `json:"name"`
	} `json:"device"`
	ModelName   string `json:"model_name"`
	SmartStatus struct {
		Passed *bool `json:"passed"`
	} `json:"smart_status"`
	Temperature struct {
		Current *int64 `json:"current"`
	} `json:"temperature"`
	ATA struct {
		Table []struct {
			ID    int    `json:"id"`
			Name  string `json:"name"`
			Value int64  `json:"value"`
			Raw   struct {
				Value int64 `json:"value"`
			} `json:"raw"`
		} `json:"table"`
	} `json:"ata_smart_attributes"`
	NVMe *struct {
		Critical    *int64 `json:"critical_warning"`
		Spare       *int64 `json:"available_spare"`
		SpareLeast  *int64 `json:"available_spare_threshold"`
		Used        *int64 `json:"percentage_used"`
		MediaErrors *int64 `json:"media_errors"`
	} `json:"nvme_smart_health_information_log"`
	// Endurance is told of some disks since smartmontools 7.5.
	Endurance struct {
		Used *int64 `json:"current_percent"`
	} `json:"endurance_used"`
	Smartctl struct {
		Messages []struct {
			String   string `json:"string"`
			Severity string `json:"severity"`
		} `json:"messages"`
	} `json:"smartctl"`
}

// ParseSMART reads what smartctl has printed for one disk. The error says what smartctl
// complains of, if it could tell nothing.
func ParseSMART(text []byte) (SMART, error) {
	var in smartJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return SMART{}, fmt.Errorf("smartctl: %w", err)
	}
	out := SMART{
		Device: in.Device.Name, Model: in.ModelName, Passed: in.SmartStatus.Passed,
		Celsius: in.Temperature.Current, Used: in.Endurance.Used,
	}
	if n := in.NVMe; n != nil {
		out.Spare, out.SpareLeast, out.MediaErrors, out.Critical = n.Spare, n.SpareLeast, n.MediaErrors, n.Critical
		if n.Used != nil {
			out.Used = n.Used
		}
	}
	for _, a := range in.ATA.Table {
		raw := a.Raw.Value
		switch {
		case a.ID == 5:
			out.Reallocated = &raw
		case a.ID == 197:
			out.Pending = &raw
		case a.ID == 198:
			out.Uncorrectable = &raw
		case out.Used == nil && isWear(a.ID, a.Name):
			// The normalized value counts from 100 down.
			out.Used = new(max(100-a.Value, 0))
		}
	}
	if out.Passed == nil && in.NVMe == nil && len(in.ATA.Table) == 0 {
		for _, m := range in.Smartctl.Messages {
			if m.Severity == "error" {
				return out, fmt.Errorf("smartctl: %s", m.String)
			}
		}
		return out, errors.New("smartctl: the disk says nothing of itself")
	}
	return out, nil
}

// isWear says whether an attribute of a solid state disk tells how much of its life is left
// (177 of Samsung, 202 of Crucial, 231 and 233 of several others). Numbers mean other
// things on other disks, so the name counts.
func isWear(id int, name string) bool {
	return slices.Contains([]int{173, 177, 202, 231, 233}, id) &&
		slices.ContainsFunc([]string{"Wear", "Life", "Media_Wearout"}, func(word string) bool { return strings.Contains(name, word) })
}

// hot is how warm a disk may be, in degrees Celsius.
const hot = 70

// Findings judges a disk.
func (s SMART) Findings() []mirrorapi.Finding {
	about := "disk " + s.Device
	var found []mirrorapi.Finding
	add := func(level, do, format string, args ...any) {
		found = append(found, mirrorapi.Finding{Level: level, About: about, Message: fmt.Sprintf(format, args...), Do: do})
	}
	const replace = "replace it soon; smartctl -a has more"
	if s.Passed != nil && !*s.Passed {
		add(mirrorapi.LevelError, "replace it now", "%s says itself that it is failing", s.name())
	}
	if c := value(s.Critical); c != 0 {
		add(mirrorapi.LevelError, replace, "%s has the critical warning %#x (%s)", s.name(), c, criticalWords(c))
	}
	if n := value(s.Pending); n > 0 {
		add(mirrorapi.LevelError, replace+"; freshet mirror verify PROJECT --repair finds what cannot be read", "%d sectors of %s cannot be read", n, s.name())
	}
	if n := value(s.Uncorrectable); n > 0 && value(s.Pending) == 0 {
		add(mirrorapi.LevelWarning, replace, "%d sectors of %s could not be read before", n, s.name())
	}
	if n := value(s.MediaErrors); n > 0 {
		add(mirrorapi.LevelWarning, replace, "%s has had %d errors that it could not correct", s.name(), n)
	}
	if n := value(s.Reallocated); n > 0 {
		level := mirrorapi.LevelWarning
		if n > 100 {
			level = mirrorapi.LevelError
		}
		add(level, replace, "%s has replaced %d bad sectors", s.name(), n)
	}
	if s.Spare != nil && s.SpareLeast != nil && *s.Spare <= *s.SpareLeast && value(s.Critical)&1 == 0 {
		add(mirrorapi.LevelError, replace, "%s has %d%% of its spare blocks left", s.name(), *s.Spare)
	}
	switch used := value(s.Used); {
	case used >= 100:
		add(mirrorapi.LevelError, replace, "the flash of %s is worn out: %d%% of its life is over", s.name(), used)
	case used >= 90:
		add(mirrorapi.LevelWarning, "plan for another", "%d%% of the life of the flash of %s is over", used, s.name())
	}
	if c := value(s.Celsius); c >= hot && c < 200 {
		add(mirrorapi.LevelWarning, "give it air", "%s has %d °C", s.name(), c)
	}
	if len(found) == 0 {
		add(mirrorapi.LevelOK, "", "%s has nothing to complain of", s.name())
	}
	return found
}

func (s SMART) name() string {
	if s.Model == "" {
		return "the disk"
	}
	return fmt.Sprintf("the disk (%.60s)", s.Model)
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// criticalWords are the bits of the critical warning (NVM Express Base 2.0, figure 207).
func criticalWords(bits int64) string {
	var words []string
	for i, word := range []string{"few spare blocks", "temperature", "unreliable", "read-only", "no backup of its memory", "memory region read-only"} {
		if bits&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		return "unknown"
	}
	return strings.Join(words, ", ")
}

// smartTime bounds one run of smartctl, and maxSMART what it may print.
const (
	smartTime = 20 * time.Second
	maxSMART  = 4 << 20
)

// LookSMART asks smartctl for the disks that a folder is on, and judges them. Without the
// program, and of disks that say nothing, there is nothing to tell. Disks that sleep are
// not woken up.
func LookSMART(ctx context.Context, folder string) []mirrorapi.Finding {
	program, err := exec.LookPath("smartctl")
	if err != nil {
		return []mirrorapi.Finding{{
			Level: mirrorapi.LevelOK, About: "disk", Message: "whether it is failing is not known: there is no smartctl",
			Do: "install smartmontools",
		}}
	}
	var found []mirrorapi.Finding
	for _, device := range Devices(folder) {
		s, err := runSMART(ctx, program, device)
		if err != nil {
			found = append(found, mirrorapi.Finding{Level: mirrorapi.LevelOK, About: "disk " + device, Message: "whether it is failing is not known: " + err.Error()})
			continue
		}
		found = append(found, s.Findings()...)
	}
	return found
}

func runSMART(ctx context.Context, program, device string) (SMART, error) {
	ctx, cancel := context.WithTimeout(ctx, smartTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--json", "--info", "--health", "--attributes", "--nocheck=standby", device)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out := &bounded{left: maxSMART}
	cmd.Stdout = out
	err := cmd.Run()
	if ctx.Err() != nil {
		return SMART{}, errors.New("smartctl does not answer")
	}
	// The bits of the exit code say what is wrong with the disk; so does what it prints.
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return SMART{}, err
	}
	s, err := ParseSMART(out.text)
	s.Device = device
	return s, err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	text []byte
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.text = append(b.text, p[:n]...)
	b.left -= n
	return len(p), nil
}

// Devices are the disks that a folder is on, as paths in /dev: behind partitions, RAID and
// LVM. There are none if the file system is not on a disk of its own.
func Devices(folder string) []string {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return nil
	}
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	at, err := filepath.EvalSymlinks(link)
	if err != nil {
		return nil
	}
	var disks []string
	behind(at, 0, &disks)
	slices.Sort(disks)
	return slices.Compact(disks)
}

// behind finds the disks of a block device, given by its folder in /sys.
func behind(at string, depth int, disks *[]string) {
	const most = 8
	if depth > most {
		return
	}
	slaves, err := os.ReadDir(at + "/slaves")
	if err == nil && len(slaves) > 0 {
		for _, s := range slaves {
			if next, err := filepath.EvalSymlinks(at + "/slaves/" + s.Name()); err == nil {
				behind(next, depth+1, disks)
			}
		}
		return
	}
	if _, err := os.Lstat(at + "/partition"); err == nil {
		behind(filepath.Dir(at), depth+1, disks)
		return
	}
	if _, err := os.Lstat(at + "/device"); err == nil { // not a loop or a RAM disk
		*disks = append(*disks, "/dev/"+strings.ReplaceAll(filepath.Base(at), "!", "/"))
	}
}
