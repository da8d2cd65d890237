package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// These keys are 32 times the letter.
const (
	keyA = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
	keyB = "4242424242424242424242424242424242424242424242424242424242424242"
)

// sealedByA is what was once stored for organization 7 with keyA; it must open
// for ever.
const sealedByA = "018a31e55a328517ca476e8a79569e827e245d770be88b1554889b20d7df92a2e42dff34c75033be6f994b"

func keys(t testing.TB, keys ...string) *keyring {
	t.Helper()
	k, err := newKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeys(t *testing.T) {
	t.Parallel()
	raw := append(bytes.Repeat([]byte{0xfb, 0xff}, 15), 1, 2) // letters in which the alphabets differ
	stored := keys(t, hex.EncodeToString(raw)).seal([]byte("x"), 7)
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		strings.ToUpper(hex.EncodeToString(raw)), " " + hex.EncodeToString(raw) + "\n",
	} {
		if !keys(t, text).current(stored) {
			t.Errorf("%q is another key", text)
		}
	}
	for _, text := range []string{
		"", " ", "=", "secret", "correct horse battery staple, 32", keyA + "=", keyA[1:], keyA[:40] + "!!!=", keyB[2:], keyB + "42", "0x" + keyB[2:],
		base64.StdEncoding.EncodeToString(raw[1:]), base64.StdEncoding.EncodeToString(append(raw, 0)), keyA + "," + keyA, strings.Repeat("g", 64),
	} {
		k, err := newKeyring([]string{keyA, text})
		if !errors.Is(err, errKey) || k != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want := "key 2 of SECRET_KEY " + errKey.Error(); err.Error() != want {
			t.Errorf("%q: the text is %q", text, err)
		}
	}
}

// drawSecret draws what may be stored, but nothing empty.
func drawSecret(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "secret") }

func drawKey(t *rapid.T, name string) string {
	return hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
}

func TestSeal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		secret, owner := drawSecret(rt), rapid.Int64().Draw(rt, "owner")
		oldKey := drawKey(rt, "old")
		newKey := rapid.Custom(func(rt *rapid.T) string { return drawKey(rt, "new") }).
			Filter(func(s string) bool { return s != oldKey }).Draw(rt, "new")
		none, before, during, after := keys(t), keys(t, oldKey), keys(t, newKey, oldKey), keys(t, newKey)

		plain, sealed := none.seal(secret, owner), before.seal(secret, owner)
		resealed := during.seal(secret, owner)
		for _, tt := range []struct {
			name    string
			k       *keyring
			stored  []byte
			err     error
			current bool
		}{
			{"plain, without a key", none, plain, nil, true},
			{"plain, with a key", before, plain, nil, false},
			{"sealed", before, sealed, nil, true},
			{"sealed before a rotation", during, sealed, nil, false},
			{"sealed since", during, resealed, nil, true},
			{"sealed since, the old key forgotten", after, resealed, nil, true},
			{"sealed before, the old key forgotten", after, sealed, errNoKey, false},
			{"sealed, no key", none, sealed, errNoKey, false},
		} {
			opened, err := tt.k.open(tt.stored, owner)
			if !errors.Is(err, tt.err) || err == nil && !bytes.Equal(opened, secret) {
				rt.Errorf("%s: opens as %x, %v", tt.name, opened, err)
			}
			if got := tt.k.current(tt.stored); got != tt.current {
				rt.Errorf("%s: current is %v", tt.name, got)
			}
		}
		if len(secret) >= 8 && bytes.Contains(sealed, secret[:8]) {
			rt.Error("a sealed secret can be read")
		}
		if bytes.Equal(sealed, before.seal(secret, owner)) {
			rt.Error("sealed twice, it is the same")
		}
	})
}

// What was sealed opens for its owner alone, whole and unchanged. Only its
// first byte says that it is sealed: without it the bytes are a plain secret,
// and not the one that was sealed.
func TestSealedTampered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		secret, owner := drawSecret(rt), rapid.Int64().Draw(rt, "owner")
		k := keys(t, keyA, keyB)
		sealed := k.seal(secret, owner)
		other := rapid.Int64().Filter(func(id int64) bool { return id != owner }).Draw(rt, "other owner")
		if _, err := k.open(sealed, other); !errors.Is(err, errNotSealedHere) {
			rt.Errorf("for another organization: %v", err)
		}
		for n := 1; n < len(sealed); n++ {
			if opened, err := k.open(sealed[:n], owner); err == nil {
				rt.Fatalf("cut to %d bytes, it opens as %x", n, opened)
			}
		}
		flip := rapid.ByteRange(1, math.MaxUint8).Draw(rt, "flip")
		for i := range sealed {
			changed := bytes.Clone(sealed)
			changed[i] ^= flip
			opened, err := k.open(changed, owner)
			if changed[0] == formPlain && bytes.Equal(opened, sealed[1:]) && !k.current(changed) {
				continue
			}
			if err == nil {
				rt.Fatalf("byte %d changed, it opens as %x", i, opened)
			}
		}
		if _, err := k.open(append(sealed, 0), owner); !errors.Is(err, errNotSealedHere) {
			rt.Errorf("longer: %v", err)
		}
	})
}

// Two keys that claim to be the same do not open each other's.
func TestSealedByAnother(t *testing.T) {
	t.Parallel()
	a, b := keys(t, keyA), keys(t, keyB)
	sealed := b.seal([]byte("x"), 7)
	copy(sealed[1:], a.keys[0].id[:])
	if opened, err := a.open(sealed, 7); !errors.Is(err, errNotSealedHere) {
		t.Errorf("opens as %x, %v", opened, err)
	}
}

func TestSealNothing(t *testing.T) {
	t.Parallel()
	for _, k := range []*keyring{{}, keys(t), keys(t, keyA)} {
		stored := k.seal(nil, 7)
		if stored == nil || len(stored) != 0 || !k.current(stored) || !k.current(nil) {
			t.Errorf("nothing is stored as %#v", stored)
		}
		if opened, err := k.open(stored, 7); err != nil || len(opened) != 0 {
			t.Errorf("opens as %x, %v", opened, err)
		}
	}
}

// What is opened or sealed shares no memory with what was given.
func TestSealCopies(t *testing.T) {
	t.Parallel()
	for _, k := range []*keyring{keys(t), keys(t, keyA)} {
		secret := []byte("secret")
		stored := k.seal(secret, 7)
		clear(secret)
		opened, err := k.open(stored, 7)
		clear(stored)
		if err != nil || string(opened) != "secret" {
			t.Errorf("%q, %v", opened, err)
		}
	}
}

func TestSealedForm(t *testing.T) {
	t.Parallel()
	stored, err := hex.DecodeString(sealedByA)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := keys(t, keyA).open(stored, 7)
	if err != nil || string(opened) != "secret" {
		t.Errorf("%q, %v", opened, err)
	}
	const head, nonce, tag = 1 + 8, 12, 16
	if got, want := len(keys(t, keyA).seal([]byte("secret"), 7)), head+nonce+len("secret")+tag; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

// No way to print a keyring or an error shows a byte of a key or a secret.
func TestSealShowsNothing(t *testing.T) {
	t.Parallel()
	k := keys(t, keyA, keyB)
	if shown := fmt.Sprintf("%v %#v %s", k, k, *k); shown != strings.TrimSpace(strings.Repeat("keyring[redacted] ", 3)) {
		t.Errorf("shown as %s", shown)
	}
	var out bytes.Buffer
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d") {
		fmt.Fprintf(&out, verb+verb+verb+"\n", k, *k, struct{ k *keyring }{k})
	}
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		log.Info("x", "keyring", k, "value", *k, "struct", struct{ K *keyring }{k})
	}
	stored := k.seal([]byte("secret-secret"), 7)
	_, tampered := k.open(append(stored, 0), 7)
	_, missing := keys(t).open(stored, 7)
	_, form := k.open([]byte{9}, 7)
	_, key := newKeyring([]string{keyA + "x"})
	fmt.Fprintln(&out, tampered, missing, form, key)
	for _, shown := range []string{"secret-secret", keyA[:8], keyB[:8], "AAAA", "BBBB", "65 65 65", "66 66 66", "41414141", "0x41, 0x41"} {
		if strings.Contains(out.String(), shown) {
			t.Errorf("%q is shown:\n%s", shown, &out)
		}
	}
	if !strings.Contains(missing.Error(), "SECRET_KEY") {
		t.Errorf("what to do is not said: %v", missing)
	}
}

// FuzzOpenSealed holds that whatever the database holds is opened or refused,
// and that nobody without the key makes something sealed that opens.
func FuzzOpenSealed(f *testing.F) {
	sealed, err := hex.DecodeString(sealedByA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, int64(7))
	f.Add(sealed, int64(8))
	f.Add(sealed[:9], int64(7))
	f.Add(sealed[:8], int64(7))
	f.Add(append([]byte{formPlain}, "secret"...), int64(-1))
	f.Add([]byte{2}, int64(0))
	f.Add([]byte{}, int64(0))
	with, without := keys(f, keyB, keyA), keys(f)
	f.Fuzz(func(t *testing.T, stored []byte, owner int64) {
		for _, k := range []*keyring{with, without} {
			opened, err := k.open(stored, owner)
			if err != nil {
				if k.current(stored) && len(k.keys) == 0 {
					t.Errorf("%x is current, and does not open: %v", stored, err)
				}
				continue
			}
			if len(stored) > 0 && stored[0] == formSealed && (k == without || owner != 7 || !bytes.Equal(stored, sealed)) {
				t.Errorf("%x was forged", stored)
			}
			again := k.seal(opened, owner)
			if reopened, err := k.open(again, owner); err != nil || !bytes.Equal(reopened, opened) || !k.current(again) {
				t.Errorf("%x opens as %x, and sealed again as %x, %v", stored, opened, reopened, err)
			}
		}
	})
}
