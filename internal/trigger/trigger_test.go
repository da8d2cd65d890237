package trigger_test

import (
	"testing"

	"go.uber.org/goleak"

	"triggerd/internal/trigger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The first outputs of splitmix64 (Steele, Lea, Flood 2014) for two seeds, as
// its reference code prints them. Buckets are stored, so these never change.
func TestBucketIsSplitmix64(t *testing.T) {
	t.Parallel()
	tests := []struct {
		seed   int64
		output uint64
	}{
		{0, 0xe220a8397b1dcdaf},
		{1234567, 6457827717110365317},
	}
	for _, tt := range tests {
		if got, want := trigger.Bucket(tt.seed), int16(tt.output%trigger.Buckets); got != want {
			t.Errorf("Bucket(%d) = %d, want %d", tt.seed, got, want)
		}
	}
}

func TestBucketSpreadsOrganizations(t *testing.T) {
	t.Parallel()
	const each = 400
	var counts [trigger.Buckets]int
	for orgID := range int64(each * trigger.Buckets) {
		bucket := trigger.Bucket(orgID + 1)
		if bucket < 0 || bucket >= trigger.Buckets {
			t.Fatalf("Bucket(%d) = %d, want 0..255", orgID+1, bucket)
		}
		counts[bucket]++
	}
	for bucket, n := range counts {
		if n < each*3/4 || n > each*5/4 {
			t.Errorf("bucket %d has %d organizations, want %d ± 25 %%", bucket, n, each)
		}
	}
}
