package wire

import (
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sqs"
)

// maxList is how many queues a list has at most.
const maxList = 1000

func (a *api) createQueue(c *call, in *createQueueInput) (*queueOutput, error) {
	if in.QueueName == "" {
		return nil, hearth.Errorf(sqs.MissingParameter, "The request must contain the parameter QueueName.")
	}
	account := c.Caller.Account
	if err := a.allowed(c, target{account, in.QueueName}, "CreateQueue"); err != nil {
		return nil, err
	}
	if err := a.queues.Create(c, account, in.QueueName, in.Attributes, in.Tags); err != nil {
		return nil, err
	}
	return &queueOutput{urlOf(c, account, in.QueueName)}, nil
}

func (a *api) deleteQueue(c *call, in *queueInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "DeleteQueue")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.DeleteQueue(c, t.account, t.name)
}

func (a *api) getQueueURL(c *call, in *getQueueURLInput) (*queueOutput, error) {
	if in.QueueName == "" {
		return nil, hearth.Errorf(sqs.MissingParameter, "The request must contain the parameter QueueName.")
	}
	t := target{c.Caller.Account, in.QueueName}
	if in.QueueOwnerAWSAccountId != "" {
		t.account = hearth.Account(in.QueueOwnerAWSAccountId)
	}
	if err := a.allowed(c, t, "GetQueueUrl"); err != nil {
		return nil, err
	}
	if err := a.queues.Exists(t.account, t.name); err != nil {
		return nil, err
	}
	return &queueOutput{urlOf(c, t.account, t.name)}, nil
}

// page reads how many are asked for; without that there are no tokens.
func page(asked *int) (max int, paged bool, err error) {
	if asked == nil {
		return maxList, false, nil
	}
	if *asked < 1 || *asked > maxList {
		return 0, false, hearth.Errorf(sqs.InvalidParameter, "Value %d for parameter MaxResults is invalid. Reason: Must be between 1 and %d, if provided.", *asked, maxList)
	}
	return *asked, true, nil
}

func (a *api) listQueues(c *call, in *listQueuesInput) (*listQueuesOutput, error) {
	max, paged, err := page(in.MaxResults)
	if err != nil {
		return nil, err
	}
	if err := a.allowed(c, target{c.Caller.Account, "*"}, "ListQueues"); err != nil {
		return nil, err
	}
	names, more := a.queues.List(c.Caller.Account, in.QueueNamePrefix, in.NextToken, max)
	out := &listQueuesOutput{QueueUrls: urlsOf(c, c.Caller.Account, names)}
	if more && paged {
		out.NextToken = names[len(names)-1]
	}
	return out, nil
}

func urlsOf(c *call, account hearth.Account, names []string) (urls []string) {
	for _, n := range names {
		urls = append(urls, urlOf(c, account, n))
	}
	return urls
}

func (a *api) listSources(c *call, in *listSourcesInput) (*listSourcesOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "ListDeadLetterSourceQueues")
	if err != nil {
		return nil, err
	}
	max, paged, err := page(in.MaxResults)
	if err != nil {
		return nil, err
	}
	names, more, err := a.queues.Sources(t.account, t.name, in.NextToken, max)
	if err != nil {
		return nil, err
	}
	out := &listSourcesOutput{QueueUrls: urlsOf(c, t.account, names)}
	if out.QueueUrls == nil {
		out.QueueUrls = []string{}
	}
	if more && paged {
		out.NextToken = names[len(names)-1]
	}
	return out, nil
}

func (a *api) getAttributes(c *call, in *attributesInput) (*attributesOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "GetQueueAttributes")
	if err != nil {
		return nil, err
	}
	got, err := a.queues.Attributes(c, t.account, t.name, in.AttributeNames)
	return &attributesOutput{got}, err
}

func (a *api) setAttributes(c *call, in *setAttributesInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "SetQueueAttributes")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.SetAttributes(c, t.account, t.name, in.Attributes)
}

func (a *api) purge(c *call, in *queueInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "PurgeQueue")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.Purge(c, t.account, t.name)
}

func (a *api) listTags(c *call, in *queueInput) (*tagsOutput, error) {
	t, err := a.queue(c, in.QueueUrl, "ListQueueTags")
	if err != nil {
		return nil, err
	}
	tags, err := a.queues.Tags(t.account, t.name)
	return &tagsOutput{tags}, err
}

func (a *api) tag(c *call, in *tagInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "TagQueue")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.Tag(c, t.account, t.name, in.Tags, nil)
}

func (a *api) untag(c *call, in *untagInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "UntagQueue")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.Tag(c, t.account, t.name, nil, in.TagKeys)
}

func (a *api) addPermission(c *call, in *addPermissionInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "AddPermission")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.AddPermission(c, t.account, t.name, in.Label, in.AWSAccountIds, in.Actions)
}

func (a *api) removePermission(c *call, in *removePermissionInput) (*nothing, error) {
	t, err := a.queue(c, in.QueueUrl, "RemovePermission")
	if err != nil {
		return nil, err
	}
	return nil, a.queues.RemovePermission(c, t.account, t.name, in.Label)
}

// source is the queue of a task, and whether the caller may.
func (a *api) source(c *call, arn, action string) error {
	account, name, ok := sqs.ParseARN(arn)
	if !ok {
		return hearth.Errorf(sqs.InvalidParameter, "Value %s for parameter SourceArn is invalid. Reason: It is not the ARN of a queue.", arn)
	}
	return a.allowed(c, target{account, name}, action)
}

func (a *api) startTask(c *call, in *startTaskInput) (*taskOutput, error) {
	if err := a.source(c, in.SourceArn, "StartMessageMoveTask"); err != nil {
		return nil, err
	}
	if account, name, ok := sqs.ParseARN(in.DestinationArn); ok {
		if err := a.allowed(c, target{account, name}, "SendMessage"); err != nil {
			return nil, err
		}
	}
	rate := 0
	if in.MaxNumberOfMessagesPerSecond != nil {
		if rate = *in.MaxNumberOfMessagesPerSecond; rate == 0 {
			rate = -1 // not in order, unlike none
		}
	}
	t, err := a.queues.StartTask(c, c.Caller.Account, in.SourceArn, in.DestinationArn, rate)
	if err != nil {
		return nil, err
	}
	return &taskOutput{t.Handle()}, nil
}

func (a *api) listTasks(c *call, in *listTasksInput) (*listTasksOutput, error) {
	if err := a.source(c, in.SourceArn, "ListMessageMoveTasks"); err != nil {
		return nil, err
	}
	max := 1
	if in.MaxResults != nil {
		if max = *in.MaxResults; max < 1 || max > 10 {
			return nil, hearth.Errorf(sqs.InvalidParameter, "Value %d for parameter MaxResults is invalid. Reason: Must be between 1 and 10.", max)
		}
	}
	tasks, err := a.queues.Tasks(c, in.SourceArn, max)
	out := &listTasksOutput{Results: []taskEntry{}}
	for _, t := range tasks {
		e := taskEntry{
			Status: t.Status, SourceArn: t.Source, DestinationArn: t.Destination, MaxNumberOfMessagesPerSecond: t.PerSecond,
			ApproximateNumberOfMessagesMoved: t.Moved, ApproximateNumberOfMessagesToMove: t.ToMove, FailureReason: t.Failure, StartedTimestamp: t.Started,
		}
		if t.Status == sqs.TaskRunning {
			e.TaskHandle = t.Handle()
		}
		out.Results = append(out.Results, e)
	}
	return out, err
}

func (a *api) cancelTask(c *call, in *cancelTaskInput) (*cancelTaskOutput, error) {
	t, err := a.queues.FindTask(in.TaskHandle)
	if err != nil {
		return nil, err
	}
	if err := a.source(c, t.Source, "CancelMessageMoveTask"); err != nil {
		return nil, err
	}
	moved, err := a.queues.CancelTask(c, t)
	return &cancelTaskOutput{moved}, err
}
