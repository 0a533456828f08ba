// Package backfill runs a data set that is already there through a function
// that is meant for items as they arrive: every item at least once, at a
// bounded rate, with a report of those that failed.
//
// A job lists its source page by page. What is found and not done is the
// in-process cache, what is done the results cache; both are on disk, and the
// listing's position is written together with what was found there, so that a
// kill loses nothing and repeats little. Items are known by what their source
// calls them, not by where they stood, so a listing may be in any order, repeat
// itself or change: it is listed again until a whole pass finds nothing new.
//
// The results cache keeps 16 bytes of each item, in sorted files, and is exact:
// an item is passed over only if its 128-bit hash is there, and that two of ten
// million items share one has a probability of 2^-82. (A Bloom filter of this
// size would lose some.) In memory are the window of items in process, 65,536
// hashes at most, and a 256th of the rest.
package backfill
