package limit

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func BenchmarkAllow(b *testing.B) {
	for name, limit := range map[string]int{"allowed": 1 << 30, "refused": 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			l := &Limiter[int64]{}
			l.Allow(0, limit, 1, at(0))
			for i := 0; b.Loop(); i++ {
				l.Allow(0, limit, 1, at(time.Duration(i)*time.Microsecond))
			}
		})
	}
}

// Every processor asks at once, for the one key or for many.
func BenchmarkAllowParallel(b *testing.B) {
	for name, keys := range map[string]int64{"one key": 1, "1000 keys": 1000} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			l := &Limiter[int64]{}
			for key := range keys {
				l.Allow(key, 1<<30, 1, at(0))
			}
			var calls atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				key := calls.Add(1)
				for pb.Next() {
					key++
					l.Allow(key%keys, 1<<30, 1, at(time.Duration(key)*time.Microsecond))
				}
			})
		})
	}
}

func BenchmarkMemoryOfAddresses(b *testing.B) {
	var before, after runtime.MemStats
	var l *Limiter[netip.Prefix]
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		l = &Limiter[netip.Prefix]{}
		for i := range DefaultKeys {
			addr := netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i)})
			l.Allow(netip.PrefixFrom(addr, 32), 20, 1, at(0))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/DefaultKeys, "bytes/key")
	runtime.KeepAlive(l)
}
