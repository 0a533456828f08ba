package egress

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// device is a link as the stack sees it: a wire without link addresses.
type device struct {
	link       *link
	mtu        uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var _ stack.LinkEndpoint = (*device)(nil)

// WritePackets implements stack.LinkWriter.
func (d *device) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	packets := list.AsSlice()
	for _, p := range packets {
		d.link.write(p.AsSlices()...)
	}
	return len(packets), nil
}

// Attach implements stack.NetworkLinkEndpoint; nil detaches.
func (d *device) Attach(dispatcher stack.NetworkDispatcher) {
	if dispatcher == nil {
		d.dispatcher.Store(nil)
		return
	}
	d.dispatcher.Store(&dispatcher)
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (d *device) IsAttached() bool { return d.dispatcher.Load() != nil }

// MTU implements stack.NetworkLinkEndpoint.
func (d *device) MTU() uint32 { return d.mtu }

// SetMTU implements stack.NetworkLinkEndpoint; the size is the container's and
// does not change.
func (*device) SetMTU(uint32) {}

// Capabilities implements stack.NetworkLinkEndpoint: packets come through
// memory, and the kernel leaves the checksums of some undone.
func (*device) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// MaxHeaderLength implements stack.NetworkLinkEndpoint.
func (*device) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.NetworkLinkEndpoint.
func (*device) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.NetworkLinkEndpoint.
func (*device) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType implements stack.NetworkLinkEndpoint.
func (*device) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.NetworkLinkEndpoint.
func (*device) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.NetworkLinkEndpoint.
func (*device) ParseHeader(*stack.PacketBuffer) bool { return true }

// Wait implements stack.NetworkLinkEndpoint.
func (*device) Wait() {}

// Close implements stack.NetworkLinkEndpoint.
func (*device) Close() {}

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (*device) SetOnCloseAction(func()) {}
