package egress

import (
	"io"
	"net"
	"testing"
)

// forEachWay benchmarks plain loopback, the floor, and each kind of link to a
// server in the world.
func forEachWay(b *testing.B, f func(b *testing.B, inside, outside net.Conn)) {
	b.Run("loopback", func(b *testing.B) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(b, err)
		defer l.Close()
		inside, err := net.Dial("tcp4", l.Addr().String())
		must(b, err)
		defer inside.Close()
		outside, err := l.Accept()
		must(b, err)
		defer outside.Close()
		f(b, inside, outside)
	})
	for _, kind := range kinds(b) {
		b.Run(kindNames[kind], func(b *testing.B) {
			c := newContainer(b, kind, Config{})
			l := world.listen(b, "tcp4", "198.51.100.1:0")
			inside, err := c.dial("tcp4", l.Addr().String(), brief)
			must(b, err)
			defer inside.Close()
			outside, err := l.Accept()
			must(b, err)
			defer outside.Close()
			f(b, inside, outside)
		})
	}
}

// BenchmarkRoundTrip is a byte there and back.
func BenchmarkRoundTrip(b *testing.B) {
	forEachWay(b, func(b *testing.B, inside, outside net.Conn) {
		go io.Copy(outside, outside)
		one := make([]byte, 1)
		for b.Loop() {
			if _, err := inside.Write(one); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(inside, one); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkThroughput is a stream, out of the container and into it.
func BenchmarkThroughput(b *testing.B) {
	for _, direction := range []string{"out", "in"} {
		b.Run(direction, func(b *testing.B) {
			forEachWay(b, func(b *testing.B, inside, outside net.Conn) {
				from, to := inside, outside
				if direction == "in" {
					from, to = outside, inside
				}
				block := make([]byte, 64<<10)
				b.SetBytes(int64(len(block)))
				done := make(chan int64)
				go func() {
					// Copy would splice within the kernel, which no program does
					// that looks at what it reads.
					var total int64
					buffer := make([]byte, 64<<10)
					for {
						n, err := to.Read(buffer)
						total += int64(n)
						if err != nil {
							done <- total
							return
						}
					}
				}()
				var sent int64
				for b.Loop() {
					n, err := from.Write(block)
					if err != nil {
						b.Fatal(err)
					}
					sent += int64(n)
				}
				must(b, from.(*net.TCPConn).CloseWrite())
				if got := <-done; got != sent {
					b.Fatalf("%d of %d bytes arrived", got, sent)
				}
			})
		})
	}
}

// BenchmarkConnect is a connection made, used for a byte each way and closed.
func BenchmarkConnect(b *testing.B) {
	l := world.listen(b, "tcp4", "198.51.100.1:0")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	connect := func(b *testing.B, n *namespace) {
		must(b, n.do(func() error {
			one := make([]byte, 1)
			for b.Loop() {
				conn, err := net.Dial("tcp4", l.Addr().String())
				if err != nil {
					return err
				}
				if _, err := conn.Write(one); err != nil {
					return err
				}
				if _, err := io.ReadFull(conn, one); err != nil {
					return err
				}
				conn.Close()
			}
			return nil
		}))
	}
	b.Run("world", func(b *testing.B) { connect(b, world) })
	for _, kind := range kinds(b) {
		b.Run(kindNames[kind], func(b *testing.B) {
			connect(b, newContainer(b, kind, Config{Limits: Limits{NewPerSecond: 1 << 30}}).namespace)
		})
	}
}
