// Go's net package as one uses it: a goroutine per connection, a loop for datagrams.
// Prints "port N" and serves until it is killed. Pinned to one core, it runs on one thread's worth of CPU.
package main

import (
	"fmt"
	"net"
)

const piece = 65536

func serve(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, piece)
	for {
		n, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err := connection.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func answer(datagrams *net.UDPConn) {
	buffer := make([]byte, piece)
	for {
		n, peer, err := datagrams.ReadFromUDPAddrPort(buffer)
		if err == nil {
			datagrams.WriteToUDPAddrPort(buffer[:n], peer)
		}
	}
}

func main() {
	for {
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			panic(err)
		}
		here := listener.Addr().(*net.TCPAddr)
		datagrams, err := net.ListenUDP("udp4", &net.UDPAddr{IP: here.IP, Port: here.Port})
		if err != nil { // the number is free for TCP only
			listener.Close()
			continue
		}
		fmt.Printf("port %d\n", here.Port)
		go answer(datagrams)
		for {
			connection, err := listener.Accept()
			if err == nil {
				go serve(connection)
			}
		}
	}
}
