package flatpak

import (
	"fmt"
	"slices"
	"strings"

	"freshet/internal/keyfile"
)

// Permissions are what the metadata of an application or runtime lets it do
// outside of its sandbox, each as the option of flatpak run and flatpak
// build-finish that grants it ("--socket=x11", "--talk-name=org.example.Service"),
// sorted, without repetition. What takes away something that the runtime grants
// is an option as well ("--nosocket=x11"). What has no option stands as
// "[group] key=value", so that nothing is passed over.
type Permissions []string

// groupContext holds most permissions; see flatpak-metadata(5).
const groupContext = "Context"

// contextOptions are the options of the lists in the group Context: the one that
// grants a value, and the one for values that begin with "!".
func contextOptions(key string) (grant, deny string) {
	switch key {
	case "shared":
		return "--share=", "--unshare="
	case "sockets":
		return "--socket=", "--nosocket="
	case "devices":
		return "--device=", "--nodevice="
	case "filesystems":
		return "--filesystem=", "--nofilesystem="
	case "features":
		return "--allow=", "--disallow="
	case "persistent":
		return "--persist=", ""
	case "unset-environment":
		return "--unset-env=", ""
	}
	return "", ""
}

// busOption is the option for a policy about a name on a bus.
func busOption(group, policy string) string {
	bus := map[string]string{"Session Bus Policy": "--", "System Bus Policy": "--system-", "Accessibility Bus Policy": "--a11y-"}[group]
	switch {
	case bus == "":
	case policy == "own", policy == "talk":
		return bus + policy + "-name="
	case policy == "none":
		return bus + "no-talk-name="
	}
	return ""
}

// ParsePermissions reads the permissions in a metadata file. Without any, the
// result is empty.
func ParsePermissions(metadata string) (Permissions, error) {
	file, err := keyfile.Parse([]byte(metadata))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	var p Permissions
	for _, group := range file.Groups() {
		for _, key := range file.Keys(group) {
			p = appendPermissions(p, file, group, key)
		}
	}
	slices.Sort(p)
	return slices.Compact(p), nil
}

// appendPermissions adds what one key grants; keys of groups that are about
// something else grant nothing.
func appendPermissions(p Permissions, file *keyfile.File, group, key string) Permissions {
	value, _ := file.Get(group, key)
	plain := fmt.Sprintf("[%s] %s=%s", group, key, value)
	subsystem, isPolicy := strings.CutPrefix(group, "Policy ")
	switch {
	case group == groupContext:
		grant, deny := contextOptions(key)
		return appendList(p, file.List(group, key), grant, deny, plain)
	case isPolicy:
		return appendList(p, file.List(group, key), "--add-policy="+subsystem+"."+key+"=", "--remove-policy="+subsystem+"."+key+"=", plain)
	case group == "USB Devices" && key == "enumerable-devices":
		return appendList(p, file.List(group, key), "--usb=", "", plain)
	case group == "USB Devices" && key == "hidden-devices":
		return appendList(p, file.List(group, key), "--nousb=", "", plain)
	case group == "Environment" && value == "" && slices.Contains(file.List(groupContext, "unset-environment"), key):
		return p // said a second time, for flatpak before 1.11
	case group == "Environment":
		return append(p, "--env="+key+"="+value)
	case strings.HasSuffix(group, " Bus Policy"):
		if option := busOption(group, value); option != "" {
			return append(p, option+key)
		}
		return append(p, plain)
	}
	return p
}

// appendList adds the values of a list by their options, and plain when there is
// none for one.
func appendList(p Permissions, values []string, grant, deny, plain string) Permissions {
	for _, value := range values {
		denied, isDenied := strings.CutPrefix(value, "!")
		switch {
		case isDenied && deny != "":
			p = append(p, deny+denied)
		case !isDenied && grant != "":
			p = append(p, grant+value)
		default:
			p = append(p, plain)
		}
	}
	return p
}

// Without returns those of p that other has not.
func (p Permissions) Without(other Permissions) Permissions {
	var rest Permissions
	for _, permission := range p {
		if _, found := slices.BinarySearch(other, permission); !found {
			rest = append(rest, permission)
		}
	}
	return rest
}
