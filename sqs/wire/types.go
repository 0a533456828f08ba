package wire

// The inputs and outputs of the operations. Their members' names are those of
// the JSON protocol. The tag query is how the query protocol spells a member
// that is a list or a map, of which it has one parameter for each item and no
// word for the whole; name and value are the names of a map's halves.

type queueInput struct {
	QueueUrl string
}

type attributeMap map[string]string

type createQueueInput struct {
	QueueName  string
	Attributes attributeMap      `query:"Attribute,Name,Value"`
	Tags       map[string]string `json:"tags" query:"Tag,Key,Value"`
}

type queueOutput struct {
	QueueUrl string
}

type getQueueURLInput struct {
	QueueName              string
	QueueOwnerAWSAccountId string
}

type listQueuesInput struct {
	QueueNamePrefix string
	NextToken       string
	MaxResults      *int
}

type listQueuesOutput struct {
	QueueUrls []string `json:"QueueUrls,omitempty" query:"QueueUrl"`
	NextToken string   `json:",omitempty"`
}

type listSourcesInput struct {
	QueueUrl   string
	NextToken  string
	MaxResults *int
}

type listSourcesOutput struct {
	QueueUrls []string `json:"queueUrls" query:"QueueUrl"`
	NextToken string   `json:",omitempty"`
}

type attributesInput struct {
	QueueUrl       string
	AttributeNames []string `query:"AttributeName"`
}

type attributesOutput struct {
	Attributes attributeMap `json:",omitempty" query:"Attribute,Name,Value"`
}

type setAttributesInput struct {
	QueueUrl   string
	Attributes attributeMap `query:"Attribute,Name,Value"`
}

type tagsOutput struct {
	Tags map[string]string `json:",omitempty" query:"Tag,Key,Value"`
}

type tagInput struct {
	QueueUrl string
	Tags     map[string]string `query:"Tag,Key,Value"`
}

type untagInput struct {
	QueueUrl string
	TagKeys  []string `query:"TagKey"`
}

type addPermissionInput struct {
	QueueUrl      string
	Label         string
	AWSAccountIds []string `query:"AWSAccountId"`
	Actions       []string `query:"ActionName"`
}

type removePermissionInput struct {
	QueueUrl string
	Label    string
}

// attributeValue is the value of a message attribute.
type attributeValue struct {
	DataType    string
	StringValue *string `json:",omitempty"`
	BinaryValue []byte  `json:",omitempty"`
	// The service refuses these, which its API has for the future.
	StringListValues []string `json:",omitempty" query:"StringListValue"`
	BinaryListValues [][]byte `json:",omitempty" query:"BinaryListValue"`
}

type sendInput struct {
	QueueUrl string
	message
}

// message is what SendMessage and an entry of its batch have in common.
type message struct {
	MessageBody             string
	DelaySeconds            *int
	MessageAttributes       map[string]attributeValue `query:"MessageAttribute,Name,Value"`
	MessageSystemAttributes map[string]attributeValue `query:"MessageSystemAttribute,Name,Value"`
	MessageGroupId          string
	MessageDeduplicationId  string
}

type sent struct {
	MessageId                    string
	MD5OfMessageBody             string
	MD5OfMessageAttributes       string `json:",omitempty"`
	MD5OfMessageSystemAttributes string `json:",omitempty"`
	SequenceNumber               string `json:",omitempty"`
}

type sendEntry struct {
	Id string
	message
}

type sendBatchInput struct {
	QueueUrl string
	Entries  []sendEntry `query:"SendMessageBatchRequestEntry"`
}

type sentEntry struct {
	Id string
	sent
}

type sendBatchOutput struct {
	Successful []sentEntry   `query:"SendMessageBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type failedEntry struct {
	Id          string
	SenderFault bool
	Code        string
	Message     string
}

type receiveInput struct {
	QueueUrl                    string
	AttributeNames              []string `query:"AttributeName"`
	MessageSystemAttributeNames []string `query:"MessageSystemAttributeName"`
	MessageAttributeNames       []string `query:"MessageAttributeName"`
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
	ReceiveRequestAttemptId     string
}

type received struct {
	MessageId              string
	ReceiptHandle          string
	MD5OfBody              string
	Body                   string
	Attributes             map[string]string         `json:",omitempty" query:"Attribute,Name,Value"`
	MD5OfMessageAttributes string                    `json:",omitempty"`
	MessageAttributes      map[string]attributeValue `json:",omitempty" query:"MessageAttribute,Name,Value"`
}

type receiveOutput struct {
	Messages []received `json:",omitempty" query:"Message"`
}

type deleteInput struct {
	QueueUrl      string
	ReceiptHandle string
}

type deleteEntry struct {
	Id            string
	ReceiptHandle string
}

type deleteBatchInput struct {
	QueueUrl string
	Entries  []deleteEntry `query:"DeleteMessageBatchRequestEntry"`
}

type okEntry struct {
	Id string
}

type deleteBatchOutput struct {
	Successful []okEntry     `query:"DeleteMessageBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type visibilityInput struct {
	QueueUrl          string
	ReceiptHandle     string
	VisibilityTimeout *int
}

type visibilityEntry struct {
	Id                string
	ReceiptHandle     string
	VisibilityTimeout *int
}

type visibilityBatchInput struct {
	QueueUrl string
	Entries  []visibilityEntry `query:"ChangeMessageVisibilityBatchRequestEntry"`
}

type visibilityBatchOutput struct {
	Successful []okEntry     `query:"ChangeMessageVisibilityBatchResultEntry"`
	Failed     []failedEntry `json:",omitempty" query:"BatchResultErrorEntry"`
}

type startTaskInput struct {
	SourceArn                    string
	DestinationArn               string
	MaxNumberOfMessagesPerSecond *int
}

type taskOutput struct {
	TaskHandle string
}

type listTasksInput struct {
	SourceArn  string
	MaxResults *int
}

type listTasksOutput struct {
	Results []taskEntry `query:"ListMessageMoveTasksResultEntry"`
}

type taskEntry struct {
	TaskHandle                        string `json:",omitempty"`
	Status                            string
	SourceArn                         string
	DestinationArn                    string `json:",omitempty"`
	MaxNumberOfMessagesPerSecond      int    `json:",omitempty"`
	ApproximateNumberOfMessagesMoved  int
	ApproximateNumberOfMessagesToMove int    `json:",omitempty"`
	FailureReason                     string `json:",omitempty"`
	StartedTimestamp                  int64
}

type cancelTaskInput struct {
	TaskHandle string
}

type cancelTaskOutput struct {
	ApproximateNumberOfMessagesMoved int
}
