package trigger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// Subscribers that were prepared match the same webhooks as each webhook's own
// filter does.
func TestPreparedSubscribersMatchTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		subs := &trigger.Subscribers{Webhooks: make([]trigger.Webhook, rapid.IntRange(1, 6).Draw(t, "webhooks"))}
		for i := range subs.Webhooks {
			w := &subs.Webhooks[i]
			w.ID = int64(i + 1)
			w.State = rapid.SampledFrom([]trigger.WebhookState{trigger.Active, trigger.Paused, trigger.Gone}).Draw(t, "state")
			content := ""
			if rapid.IntRange(0, 3).Draw(t, "filtered") > 0 {
				content = drawCondition(t, 2)
			}
			var err error
			w.Filter, err = trigger.ParseFilter([]string{rapid.SampledFrom([]string{"*", "a", "b"}).Draw(t, "type")}, []byte(content))
			if err != nil {
				t.Fatal(err)
			}
		}
		subs.Prepare()
		for range 4 {
			payload := []byte(drawPayload(t, 3))
			var want []int64
			for i := range subs.Webhooks {
				if w := &subs.Webhooks[i]; w.State.Receives() && w.Filter.Match("a", payload) {
					want = append(want, w.ID)
				}
			}
			var got []int64
			for _, w := range subs.Match(nil, "a", payload) {
				got = append(got, w.ID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: prepared subscribers match %v, each alone %v", payload, got, want)
			}
		}
	})
}

// BenchmarkPrepared shows that many content filters read a payload once: the time
// for 50 webhooks is not 50 times that of one.
func BenchmarkPrepared(b *testing.B) {
	item := `{"id":"4711","name":"a \"name\" of \u0061 thing","total":99.95,"tags":["a","b",{"c":null}]},`
	payload := []byte(`{"items":[` + strings.Repeat(item, 1<<20/len(item)) + `0]}`)
	for _, webhooks := range []int{1, 50} {
		b.Run(fmt.Sprint(webhooks), func(b *testing.B) {
			subs := &trigger.Subscribers{Webhooks: make([]trigger.Webhook, webhooks)}
			for i := range subs.Webhooks {
				var paths []string
				for n := range 60 {
					paths = append(paths, fmt.Sprintf(`{"path":"/items/%d/id","equals":%d}`, 15*n+i%15, i))
				}
				filter, err := trigger.ParseFilter(nil, []byte(`{"any":[`+strings.Join(paths, ",")+`]}`))
				if err != nil {
					b.Fatal(err)
				}
				subs.Webhooks[i] = trigger.Webhook{State: trigger.Active, Filter: filter}
			}
			subs.Prepare()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				subs.Match(nil, "a", payload)
			}
		})
	}
}
