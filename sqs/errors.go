package sqs

import (
	"context"
	"errors"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The kinds of SQS's errors, beside hearth's own. Each is the name of its
// shape; sqs/wire has the names and statuses that clients see.
const (
	NoQueue              hearth.Kind = "QueueDoesNotExist"
	QueueExists          hearth.Kind = "QueueNameExists"
	PurgeInProgress      hearth.Kind = "PurgeQueueInProgress"
	InvalidAttribute     hearth.Kind = "InvalidAttributeName"
	InvalidValue         hearth.Kind = "InvalidAttributeValue"
	InvalidContents      hearth.Kind = "InvalidMessageContents"
	InvalidReceipt       hearth.Kind = "ReceiptHandleIsInvalid"
	NotInFlight          hearth.Kind = "MessageNotInflight"
	OverLimit            hearth.Kind = "OverLimit"
	EmptyBatch           hearth.Kind = "EmptyBatchRequest"
	TooManyEntries       hearth.Kind = "TooManyEntriesInBatchRequest"
	BatchTooLong         hearth.Kind = "BatchRequestTooLong"
	EntryIDsNotDistinct  hearth.Kind = "BatchEntryIdsNotDistinct"
	InvalidEntryID       hearth.Kind = "InvalidBatchEntryId"
	UnsupportedOperation hearth.Kind = "UnsupportedOperation"
	NoResource           hearth.Kind = "ResourceNotFoundException"
	MissingParameter     hearth.Kind = "MissingParameter"
	InvalidParameter     hearth.Kind = "InvalidParameterValue"
)

func noQueue() error {
	return hearth.Errorf(NoQueue, "The specified queue does not exist.")
}

// stored is the error of a change that could not be written.
func stored(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*hearth.Error](err); ok {
		return err
	}
	e := &hearth.Error{Op: "sqs." + op, Kind: hearth.Service, Message: "The change could not be stored.", Err: err}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Message = hearth.Canceled, "The request was given up before it was done."
	case errors.Is(err, store.ErrFull):
		e.Message = "The change could not be stored: the server's disk is full."
	case errors.Is(err, store.ErrClosed):
		e.Message = "The server is stopping."
	}
	return e
}
