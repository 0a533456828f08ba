package logs

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Report is what the platform says at the end of an invocation.
type Report struct {
	RequestID string
	Duration  time.Duration
	MemoryMiB int // configured
	PeakMiB   float64
	// InitDuration is of the init phase that this invocation waited for; zero
	// if there was none.
	InitDuration time.Duration
	Status       string // "" for success, "timeout" or "error"
	ErrorType    string // of Status "error", such as Runtime.ExitError; "" is not shown
	TraceID      string // of a sampled trace; "" is not shown
}

// Billed is the duration rounded up to a millisecond.
func (r *Report) Billed() time.Duration {
	return (r.Duration + time.Millisecond - 1).Truncate(time.Millisecond)
}

// appendStart appends the line that begins an invocation.
func appendStart(b []byte, requestID, version string) []byte {
	b = append(b, "START RequestId: "...)
	b = append(b, requestID...)
	b = append(b, " Version: "...)
	b = append(b, version...)
	return append(b, '\n')
}

// appendEnd appends the line that ends an invocation.
func appendEnd(b []byte, requestID string) []byte {
	b = append(b, "END RequestId: "...)
	b = append(b, requestID...)
	return append(b, '\n')
}

// appendReport appends the line with an invocation's numbers. Its fields are
// separated by tabs, and the last ends with one where no status follows it, as
// the service prints it.
func appendReport(b []byte, r *Report) []byte {
	b = append(b, "REPORT RequestId: "...)
	b = append(b, r.RequestID...)
	b = append(b, "\tDuration: "...)
	b = appendMillis(b, r.Duration)
	b = append(b, " ms\tBilled Duration: "...)
	b = strconv.AppendInt(b, r.Billed().Milliseconds(), 10)
	b = append(b, " ms\tMemory Size: "...)
	b = strconv.AppendInt(b, int64(r.MemoryMiB), 10)
	b = append(b, " MB\tMax Memory Used: "...)
	b = strconv.AppendInt(b, int64(math.Ceil(r.PeakMiB)), 10)
	b = append(b, " MB\t"...)
	if r.InitDuration > 0 {
		b = append(b, "Init Duration: "...)
		b = appendMillis(b, r.InitDuration)
		b = append(b, " ms\t"...)
	}
	b = appendStatus(b, r.Status, r.ErrorType)
	if r.TraceID != "" {
		b = append(b, "\nXRAY TraceId: "...)
		b = append(b, r.TraceID...)
		b = append(b, '\t')
	}
	return append(b, '\n')
}

func appendStatus(b []byte, status, errorType string) []byte {
	if status == "" {
		return b
	}
	b = append(b, "Status: "...)
	b = append(b, status...)
	if errorType != "" {
		b = append(b, "\tError Type: "...)
		b = append(b, errorType...)
	}
	return b
}

// appendInitStart appends the line that begins an init phase.
func appendInitStart(b []byte, version, arn string) []byte {
	b = append(b, "INIT_START Runtime Version: "...)
	b = append(b, version...)
	b = append(b, "\tRuntime Version ARN: "...)
	b = append(b, arn...)
	return append(b, '\n')
}

// appendInitReport appends the line with the numbers of an init phase, which
// the service prints only where it did not go well.
func appendInitReport(b []byte, r *InitReport) []byte {
	b = append(b, "INIT_REPORT Init Duration: "...)
	b = appendMillis(b, r.Duration)
	b = append(b, " ms\tPhase: "...)
	b = append(b, r.Phase...)
	b = append(b, '\t')
	return append(appendStatus(b, r.Status, r.ErrorType), '\n')
}

// appendExtension appends the line that tells of an extension.
func appendExtension(b []byte, name, state string, events []string, errorType string) []byte {
	b = append(b, "EXTENSION\tName: "...)
	b = append(b, name...)
	b = append(b, "\tState: "...)
	b = append(b, state...)
	b = append(b, "\tEvents: ["...)
	b = append(b, strings.Join(events, ", ")...)
	b = append(b, ']')
	if errorType != "" {
		b = append(b, "\tError Type: "...)
		b = append(b, errorType...)
	}
	return append(b, '\n')
}

// appendSubscribed appends the line that tells of a subscription.
func appendSubscribed(b []byte, name string, logs bool, types []string) []byte {
	api := "TELEMETRY"
	if logs {
		api = "LOGS"
	}
	b = append(b, api...)
	b = append(b, "\tName: "...)
	b = append(b, name...)
	b = append(b, "\tState: Subscribed\tTypes: ["...)
	for i, t := range types {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, strings.ToUpper(t[:1])...)
		b = append(b, t[1:]...)
	}
	return append(b, "]\n"...)
}

// appendTimedOut appends the line that explains a timeout.
func appendTimedOut(b []byte, at time.Time, requestID string, timeout time.Duration) []byte {
	b = appendTime(b, at)
	b = append(b, ' ')
	b = append(b, requestID...)
	b = append(b, " Task timed out after "...)
	b = strconv.AppendFloat(b, timeout.Seconds(), 'f', 2, 64)
	return append(b, " seconds\n\n"...)
}

// appendFault appends the line that explains the end of a runtime: reason is
// such as "Runtime exited with error: exit status 1".
func appendFault(b []byte, requestID, reason, errorType string) []byte {
	b = append(b, "RequestId: "...)
	b = append(b, requestID...)
	b = append(b, " Error: "...)
	b = append(b, reason...)
	b = append(b, '\n')
	b = append(b, errorType...)
	return append(b, '\n')
}

// appendMillis appends d in milliseconds with two decimals, rounded.
func appendMillis(b []byte, d time.Duration) []byte {
	hundredths := (d.Nanoseconds() + 5000) / 10000
	b = strconv.AppendInt(b, hundredths/100, 10)
	b = append(b, '.')
	if hundredths%100 < 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, hundredths%100, 10)
}

// appendTime appends a time as the service writes it, to the millisecond.
func appendTime(b []byte, at time.Time) []byte {
	return at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}
