// Package market tells what variable capacity costs and how much of it there
// is, as a feed says it, and decides what comes of that: whether a price suits
// a user, and when work that can wait is started. All of it but Feed is pure
// over the time that it is given.
package market

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Quote is what a feed says of variable capacity.
type Quote struct {
	// Price is that of a GiB for an hour, in whatever currency the feed has.
	Price float64
	// AvailableMiB is how much of it there is; negative is all that is
	// configured.
	AvailableMiB int
	// At is when it was so. Zero is now.
	At time.Time
}

// MaxPrice bounds a price: one that is more is a mistake of the feed's.
const MaxPrice = 1e9

// MaxQuote bounds what a feed may say at once, in bytes.
const MaxQuote = 64 << 10

// Parse reads what a feed says: a JSON object with the number price, and if it
// likes availableMiB (without it, all that is configured) and at (RFC 3339;
// without it, now). What else is in it is not looked at.
func Parse(data []byte) (Quote, error) {
	if len(data) > MaxQuote {
		return Quote{}, fmt.Errorf("it is longer than %d bytes", MaxQuote)
	}
	var said struct {
		Price        *float64   `json:"price"`
		AvailableMiB *float64   `json:"availableMiB"`
		At           *time.Time `json:"at"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return Quote{}, fmt.Errorf(`it is no JSON such as {"price": 0.01, "availableMiB": 2048}: %w`, err)
	}
	q := Quote{AvailableMiB: -1}
	switch {
	case said.Price == nil:
		return Quote{}, fmt.Errorf("it has no price")
	case !(*said.Price >= 0 && *said.Price <= MaxPrice):
		return Quote{}, fmt.Errorf("its price %v is not from 0 to %v", *said.Price, float64(MaxPrice))
	}
	q.Price = *said.Price
	if a := said.AvailableMiB; a != nil {
		if !(*a >= 0 && *a <= math.MaxInt32) {
			return Quote{}, fmt.Errorf("its availableMiB %v is no amount of memory", *a)
		}
		q.AvailableMiB = int(*a)
	}
	if said.At != nil {
		q.At = *said.At
	}
	return q, nil
}

// State is what is known of variable capacity.
type State struct {
	Quote
	// Known says that the feed has ever said anything, Fresh that it is not too
	// long ago. Without either nothing new is started there; what runs goes on.
	Known, Fresh bool
	// Why tells what is wrong with the feed; "" is nothing.
	Why string
}

// Suits tells whether work may be started at the quoted price, whose user pays
// maxPrice at most; 0 is any price. Why tells why not.
func (s State) Suits(maxPrice float64) (ok bool, why string) {
	switch {
	case !s.Known:
		return false, "it is not known what variable capacity costs"
	case !s.Fresh:
		return false, "what is known of the price of variable capacity is too old"
	case s.AvailableMiB == 0:
		return false, "there is no variable capacity now"
	case maxPrice > 0 && s.Price > maxPrice:
		return false, fmt.Sprintf("variable capacity costs %v, and its policy pays %v at most", s.Price, maxPrice)
	}
	return true, ""
}

// Withdrawn tells whether work that runs already has to go: only a price that
// is known takes it away, and no silence of the feed.
func (s State) Withdrawn(maxPrice float64) bool {
	return s.Known && s.Fresh && (s.AvailableMiB == 0 || maxPrice > 0 && s.Price > maxPrice)
}
