package catalogue

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Set changes an item, a pointer to a Project, Site or Mirror, by a setting as people
// write it:
//
//	capacity=1000                     a value; without one, the zero value
//	rules.countries=AT,CH             a list
//	rules.countries+=LI               what is added to it
//	rules.countries-=LI               what is taken out of it
//	carries.fedora.https=https://…/   of an element, by its first key; made if there is none
//	carries-=fedora                   an element less
//
// Keys are those of the JSON; values of other types than text, numbers, truth and lists of
// these are JSON.
func Set(item any, setting string) error {
	key, value, ok := strings.Cut(setting, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q: want KEY=VALUE", setting)
	}
	op := byte('=')
	if last := key[len(key)-1]; last == '+' || last == '-' {
		op, key = last, key[:len(key)-1]
	}
	at, ok := find(reflect.ValueOf(item).Elem(), key, true)
	if !ok {
		return fmt.Errorf("%s: there is no such key; there are %s", key, strings.Join(Keys(item), ", "))
	}
	var err error
	switch op {
	case '=':
		err = assign(at, value)
	case '+':
		err = add(at, value)
	case '-':
		err = take(at, value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Keys are the keys that [Set] knows of an item, in their order.
func Keys(item any) []string { return keys("", reflect.TypeOf(item).Elem()) }

func keys(prefix string, t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name := prefix + keyOf(f)
		switch {
		case f.Type.Kind() == reflect.Struct && !isText(f.Type):
			names = append(names, keys(name+".", f.Type)...)
		case keyed(f.Type):
			element := strings.ToUpper(keyOf(f.Type.Elem().Field(0)))
			names = append(names, keys(name+"."+element+".", f.Type.Elem())[1:]...)
		default:
			names = append(names, name)
		}
	}
	return names
}

// keyOf is the key of a field in JSON.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// keyed reports whether a type is a list of structs, which are known by their first field.
func keyed(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && !isText(t.Elem())
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// find returns what a key names in a struct. It makes elements that are not there, if it
// shall.
func find(v reflect.Value, key string, create bool) (reflect.Value, bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		rest, ok := strings.CutPrefix(key, keyOf(f))
		switch {
		case !ok:
			continue
		case rest == "":
			return v.Field(i), true
		case rest[0] != '.':
			continue
		case f.Type.Kind() == reflect.Struct && !isText(f.Type):
			return find(v.Field(i), rest[1:], create)
		case keyed(f.Type):
			return findElement(v.Field(i), rest[1:], create)
		}
	}
	return reflect.Value{}, false
}

// findElement returns what a key names in an element of a list. The name of an element may
// have dots: the key in it is the longest one that there is.
func findElement(list reflect.Value, key string, create bool) (reflect.Value, bool) {
	for at := range len(key) {
		if key[at] != '.' {
			continue
		}
		name, rest := key[:at], key[at+1:]
		if _, ok := find(reflect.New(list.Type().Elem()).Elem(), rest, true); !ok {
			continue
		}
		i := index(list, name)
		if i < 0 {
			if !create {
				return reflect.Value{}, false
			}
			element := reflect.New(list.Type().Elem()).Elem()
			element.Field(0).SetString(name)
			list.Set(reflect.Append(list, element))
			i = list.Len() - 1
		}
		return find(list.Index(i), rest, create)
	}
	return reflect.Value{}, false
}

// index finds an element by its first field.
func index(list reflect.Value, name string) int {
	for i := range list.Len() {
		if list.Index(i).Field(0).String() == name {
			return i
		}
	}
	return -1
}

// assign sets a value.
func assign(at reflect.Value, text string) error {
	switch {
	case text == "":
		at.SetZero()
		return nil
	case at.Kind() == reflect.Slice && text[0] != '[':
		at.SetZero()
		return add(at, text)
	}
	return parse(at, text)
}

// parse reads a text as a value of that type.
func parse(at reflect.Value, text string) error {
	if isText(at.Type()) {
		return at.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	var err error
	switch at.Kind() {
	case reflect.String:
		at.SetString(text)
	case reflect.Bool:
		var v bool
		if v, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("want true or false, got %q", text)
		}
		at.SetBool(v)
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Float64:
		into := reflect.New(at.Type())
		if err = json.Unmarshal([]byte(text), into.Interface()); err != nil {
			return fmt.Errorf("want a number, got %q", text)
		}
		at.Set(into.Elem())
	default:
		into := reflect.New(at.Type())
		if err = decode([]byte(text), into.Interface()); err != nil {
			return err
		}
		at.Set(into.Elem())
	}
	return nil
}

// elements reads the elements of a list: one in JSON, or several with commas between.
func elements(t reflect.Type, text string) (list []reflect.Value, err error) {
	parts := []string{text}
	if !strings.HasPrefix(text, "{") {
		parts = strings.Split(text, ",")
	}
	for _, part := range parts {
		element := reflect.New(t).Elem()
		if err := parse(element, part); err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}

func add(at reflect.Value, text string) error {
	if at.Kind() != reflect.Slice {
		return fmt.Errorf("is no list: want KEY=VALUE")
	}
	list, err := elements(at.Type().Elem(), text)
	if err != nil {
		return err
	}
	for _, element := range list {
		if !slices.ContainsFunc(contents(at), func(v reflect.Value) bool { return v.Equal(element) }) || keyed(at.Type()) {
			at.Set(reflect.Append(at, element))
		}
	}
	return nil
}

func contents(list reflect.Value) (elements []reflect.Value) {
	for i := range list.Len() {
		elements = append(elements, list.Index(i))
	}
	return elements
}

func take(at reflect.Value, text string) error {
	if at.Kind() != reflect.Slice {
		return fmt.Errorf("is no list: want KEY=VALUE")
	}
	for part := range strings.SplitSeq(text, ",") {
		var i int
		if keyed(at.Type()) {
			i = index(at, part)
		} else {
			element := reflect.New(at.Type().Elem()).Elem()
			if err := parse(element, part); err != nil {
				return err
			}
			i = slices.IndexFunc(contents(at), func(v reflect.Value) bool { return v.Equal(element) })
		}
		if i < 0 {
			return fmt.Errorf("%q is not in it", part)
		}
		at.Set(reflect.AppendSlice(at.Slice3(0, i, i), at.Slice(i+1, at.Len())))
	}
	return nil
}
