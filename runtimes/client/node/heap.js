'use strict'
// Fits the heap into the function's memory. A process of the warming pool was
// started for any size; V8's limits cannot be changed any more then, but how
// it grows can. Without this, garbage alone takes 130 MB (Node.js 20) to
// 260 MB (24) of a function that keeps hardly anything, and the kernel ends it.

const v8 = require('v8')

const SMALL = 256
const MEDIUM = 512

// fit is given the function's memory in MiB.
function fit (memory) {
  if (!(memory < MEDIUM)) return
  v8.setFlagsFromString('--semi-space-growth-factor=1') // the young generation stays as small as it is
  if (memory <= SMALL) v8.setFlagsFromString('--heap-growing-percent=40') // collect the old one earlier
}

module.exports = { fit }
