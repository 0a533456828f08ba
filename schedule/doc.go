// Package schedule is when: expressions (rate, cron, at) and their times, the
// Timers of a store, and EventBridge Scheduler's schedules over both.
//
// What is due is one record in an index by time. To fire is one transaction: it
// finds the record still there, puts what is to be delivered into the queue of
// package delivery, and sets the next time. So any number of servers on one
// store fire each time once, and a crash leaves the time fired or not, never
// half.
package schedule
