package checkup

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
)

// has fails the test unless a finding of the level has the words; "" for the level of OK
// alone.
func has(t *testing.T, found []mirrorapi.Finding, level, words string) {
	t.Helper()
	for _, f := range found {
		if f.Level == level && strings.Contains(f.Message, words) {
			return
		}
	}
	t.Errorf("no %s with %q in %+v", level, words, found)
}

// Disks of each kind, in the form in which smartctl 7.3 prints them.
func TestSMART(t *testing.T) {
	t.Parallel()
	ata := func(changes string) string {
		return `{"json_format_version":[1,0],"smartctl":{"version":[7,3],"exit_status":0},
"device":{"name":"/dev/sda","info_name":"/dev/sda [SAT]","type":"sat","protocol":"ATA"},
"model_name":"Samsung SSD 870 EVO 2TB","serial_number":"S","smart_status":{"passed":true},
"ata_smart_attributes":{"revision":1,"table":[
{"id":5,"name":"Reallocated_Sector_Ct","value":100,"worst":100,"thresh":10,"raw":{"value":0,"string":"0"}},
{"id":9,"name":"Power_On_Hours","value":97,"worst":97,"thresh":0,"raw":{"value":12345,"string":"12345"}},
{"id":177,"name":"Wear_Leveling_Count","value":96,"worst":96,"thresh":0,"raw":{"value":61,"string":"61"}},
{"id":197,"name":"Current_Pending_Sector","value":100,"worst":100,"thresh":0,"raw":{"value":0,"string":"0"}},
{"id":198,"name":"Offline_Uncorrectable","value":100,"worst":100,"thresh":0,"raw":{"value":0,"string":"0"}}` + changes + `]},
"power_on_time":{"hours":12345},"temperature":{"current":34}}`
	}
	nvme := func(log string) string {
		return `{"smartctl":{"version":[7,3],"exit_status":0},"device":{"name":"/dev/nvme0n1","type":"nvme","protocol":"NVMe"},
"model_name":"WD_BLACK SN850X 4000GB","smart_status":{"passed":true,"nvme":{"value":0}},
"nvme_smart_health_information_log":{` + log + `},"temperature":{"current":41}}`
	}
	const sound = `"critical_warning":0,"temperature":41,"available_spare":100,"available_spare_threshold":10,"percentage_used":3,"media_errors":0`
	for name, c := range map[string]struct{ text, level, words string }{
		"ATA":             {ata(""), mirrorapi.LevelOK, "nothing to complain"},
		"NVMe":            {nvme(sound), mirrorapi.LevelOK, "SN850X"},
		"failing":         {strings.Replace(ata(""), `"passed":true`, `"passed":false`, 1), mirrorapi.LevelError, "failing"},
		"a few bad":       {strings.Replace(ata(""), `"raw":{"value":0`, `"raw":{"value":8`, 1), mirrorapi.LevelWarning, "replaced 8 bad"},
		"many bad":        {strings.Replace(ata(""), `"raw":{"value":0`, `"raw":{"value":800`, 1), mirrorapi.LevelError, "replaced 800 bad"},
		"pending":         {ata(`,{"id":197,"name":"Current_Pending_Sector","value":99,"raw":{"value":16}}`), mirrorapi.LevelError, "16 sectors"},
		"uncorrectable":   {ata(`,{"id":198,"name":"Offline_Uncorrectable","value":99,"raw":{"value":2}}`), mirrorapi.LevelWarning, "2 sectors"},
		"worn":            {strings.Replace(ata(""), `"value":96`, `"value":4`, 1), mirrorapi.LevelWarning, "96% of the life"},
		"worn out":        {nvme(strings.Replace(sound, `"percentage_used":3`, `"percentage_used":104`, 1)), mirrorapi.LevelError, "104%"},
		"few spare":       {nvme(strings.Replace(sound, `"available_spare":100`, `"available_spare":9`, 1)), mirrorapi.LevelError, "9% of its spare"},
		"critical":        {nvme(strings.Replace(sound, `"critical_warning":0`, `"critical_warning":9`, 1)), mirrorapi.LevelError, "few spare blocks, read-only"},
		"media errors":    {nvme(strings.Replace(sound, `"media_errors":0`, `"media_errors":5`, 1)), mirrorapi.LevelWarning, "5 errors"},
		"hot":             {strings.Replace(nvme(sound), `"temperature":{"current":41}`, `"temperature":{"current":78}`, 1), mirrorapi.LevelWarning, "78 °C"},
		"only a verdict":  {`{"device":{"name":"/dev/sdb"},"smart_status":{"passed":true}}`, mirrorapi.LevelOK, "nothing"},
		"another 177":     {ata(`,{"id":231,"name":"Temperature_Celsius","value":1,"raw":{"value":40}}`), mirrorapi.LevelOK, "nothing"},
		"7.5's endurance": {`{"smart_status":{"passed":true},"endurance_used":{"current_percent":95}}`, mirrorapi.LevelWarning, "95%"},
	} {
		s, err := ParseSMART([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has(t, s.Findings(), c.level, c.words)
	}
	for text, words := range map[string]string{
		"":   "unexpected end",
		"{}": "says nothing",
		`{"smartctl":{"messages":[{"string":"Smartctl open device: /dev/sda failed: Permission denied","severity":"error"}],"exit_status":2}}`: "Permission denied",
		`{"ata_smart_attributes":{"table":{}}}`: "cannot unmarshal",
	} {
		if _, err := ParseSMART([]byte(text)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzSMART(f *testing.F) {
	f.Add([]byte(`{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[{"id":177,"name":"Wear","value":-9223372036854775808}]}}`))
	f.Add([]byte(`{"nvme_smart_health_information_log":{"critical_warning":-1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSMART(text)
		if err == nil && len(s.Findings()) == 0 {
			t.Error("nothing is said of it")
		}
	})
}

// smartctl is run as it is, and one that hangs, floods or fails is told of.
func TestLookSMART(t *testing.T) {
	program := func(script string) string {
		name := filepath.Join(t.TempDir(), "smartctl")
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return name
	}
	// Bit 3 of the exit code: the disk is failing.
	s, err := runSMART(t.Context(), program(`test "$1 $5" = "--json --nocheck=standby" || exit 1
echo '{"device":{"name":"x"},"smart_status":{"passed":false}}'; exit 8`), "/dev/none")
	if err != nil || s.Passed == nil || *s.Passed || s.Device != "/dev/none" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := runSMART(t.Context(), program("head -c 9000000 /dev/zero"), "/dev/none"); err == nil {
		t.Error("zeros are read")
	}
	if _, err := runSMART(t.Context(), "/nonexistent/smartctl", "/dev/none"); err == nil {
		t.Error("there is no such program")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runSMART(ctx, program("sleep 600"), "/dev/none"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	t.Setenv("PATH", "/nonexistent")
	has(t, LookSMART(t.Context(), "/"), mirrorapi.LevelOK, "no smartctl")
}

func TestClock(t *testing.T) {
	t.Parallel()
	off := time.Duration(0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
		if r.URL.Path == "/cached" {
			w.Header().Set("Age", "90")
		}
	}))
	defer server.Close()
	look := func() Skew {
		t.Helper()
		s, ok := LookClock(t.Context(), server.Client(), "upstream", server.URL)
		if !ok {
			t.Fatal("nothing is told")
		}
		return s
	}
	has(t, ClockFindings([]Skew{look()}, InStep), mirrorapi.LevelOK, "right")
	off = 2 * time.Minute
	has(t, ClockFindings([]Skew{look()}, InStep), mirrorapi.LevelWarning, "ahead of that of upstream")
	off = -20 * time.Minute
	bad := look()
	has(t, ClockFindings([]Skew{bad}, NotKnown), mirrorapi.LevelError, "behind that of upstream")
	// One that is wrong itself does not make this clock wrong.
	has(t, ClockFindings([]Skew{bad, {"director", time.Second}}, NotKnown), mirrorapi.LevelOK, "right")
	has(t, ClockFindings(nil, Unkept), mirrorapi.LevelWarning, "nothing keeps it")
	if found := ClockFindings(nil, NotKnown); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	if _, ok := LookClock(t.Context(), server.Client(), "", server.URL+"/cached"); ok {
		t.Error("the time of a cache")
	}
	server.Close()
	if _, ok := LookClock(t.Context(), server.Client(), "", server.URL); ok {
		t.Error("nobody is there")
	}
	if LookKept() < NotKnown {
		t.Error("the kernel is not asked")
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	const text = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 8:1 / /srv rw,noatime - xfs /dev/sda1 rw,attr2
31 22 8:2 / /srv/a\040b rw,relatime - ext4 /dev/sdb rw,nobarrier
32 22 8:3 / /ro rw,relatime - ext4 /dev/sdc ro
33 22 0:5 / /net rw,relatime - nfs4 host:/x rw
34 22 0:6 / /stick rw,relatime - vfat /dev/sdd rw
35 22 8:4 / /slow rw - ext4 /dev/sde rw
36 22 0:7 / /shm rw - tmpfs tmpfs rw
broken
`
	for path, c := range map[string]struct{ point, level, words string }{
		"/srv/mirror": {"/srv", "", ""},
		"/srv/a b/x":  {"/srv/a b", mirrorapi.LevelWarning, "nobarrier"},
		"/srvx":       {"/", "", ""},
		"/ro":         {"/ro", mirrorapi.LevelError, "nobody write"},
		"/net/m":      {"/net", mirrorapi.LevelWarning, "may not keep"},
		"/stick":      {"/stick", mirrorapi.LevelError, "no hard links"},
		"/slow":       {"/slow", mirrorapi.LevelWarning, "each read"},
		"/shm/m":      {"/shm", mirrorapi.LevelWarning, "in memory"},
	} {
		m := mountOf([]byte(text), path)
		if m.Point != c.point {
			t.Errorf("%s is on %q", path, m.Point)
		}
		if found := m.Findings(); c.level == "" && len(found) > 0 {
			t.Errorf("%s: %+v", path, found)
		} else if c.level != "" {
			has(t, found, c.level, c.words)
		}
	}
	if m := LookMount(t.TempDir()); m.Type == "" {
		t.Error("the file system of a folder is not found")
	}
	if m := LookMount("/nonexistent"); m.Type != "" || len(m.Findings()) != 0 {
		t.Errorf("%+v", m)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	has(t, OpenFiles(1024, 30_000), mirrorapi.LevelWarning, "1024 files")
	if found := OpenFiles(LookOpenFiles(), 1); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	has(t, Memory(available([]byte("MemTotal:  2000000 kB\nMemAvailable:   100000 kB\n"))), mirrorapi.LevelWarning, "102 MB")
	for _, text := range []string{"", "MemAvailable: many kB"} {
		if found := Memory(available([]byte(text))); len(found) != 0 {
			t.Errorf("%q: %+v", text, found)
		}
	}
	if LookMemory() <= 0 {
		t.Error("memory is not known")
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	issue := func(from, to time.Duration) string {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(from), NotAfter: now.Add(to)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const day = 24 * time.Hour
	if found := Certificate(issue(-day, 60*day), now); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	has(t, Certificate(issue(-day, 5*day), now), mirrorapi.LevelWarning, "in 4 days")
	has(t, Certificate(issue(-9*day, -day), now), mirrorapi.LevelError, "has expired")
	has(t, Certificate(issue(day, 9*day), now), mirrorapi.LevelError, "valid from")
	has(t, Certificate("/nonexistent", now), mirrorapi.LevelError, "no such file")
	has(t, Certificate("/dev/null", now), mirrorapi.LevelError, "no certificate")
}

// Devices leads to whole disks, or to none, and never fails.
func TestDevices(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"/", t.TempDir(), "/proc", "/nonexistent"} {
		for _, device := range Devices(folder) {
			if _, err := os.Stat(device); err != nil {
				t.Errorf("%s is on %s: %v", folder, device, err)
			}
		}
	}
}

// A filter that refuses openat2, as that of a container runtime that does not know it, is told of.
func TestOpenat2(t *testing.T) {
	if found := Openat2(LookOpenat2()); len(found) != 0 {
		t.Errorf("unhindered: %+v", found)
	}
	for _, refusal := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
		refused := make(chan error)
		go func() {
			runtime.LockOSThread() // it ends with its filter
			if err := refuse(unix.SYS_OPENAT2, refusal); err != nil {
				refused <- fmt.Errorf("no filter: %w", err)
				return
			}
			refused <- LookOpenat2()
		}()
		err := <-refused
		if !errors.Is(err, refusal) {
			t.Fatal(err)
		}
		has(t, Openat2(err), mirrorapi.LevelError, "openat2 is refused")
	}
}

// refuse has the kernel end a system call of this thread with an error, seccomp(2).
func refuse(call uint32, with unix.Errno) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(with)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}
