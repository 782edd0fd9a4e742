// A client of raftmq in Go: generated stubs, one address of any node, no other library.
//
//	client HOST:PORT TOPIC COUNT
//
// Creates TOPIC, sends COUNT keyed records in one call and COUNT more down a stream, reads everything back from a
// subscription, and prints what it saw as one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "client/raftmqv1"
)

const partitions = 3

type report struct {
	ClusterID string   `json:"cluster_id"`
	Keyed     []int    `json:"keyed"`    // records acknowledged in each partition
	Streamed  []uint64 `json:"streamed"` // base offset of each batch, in the order of its number
	Read      []string `json:"read"`     // values of partition 0, in order
	Refused   string   `json:"refused"`  // code, reason and outcome of a call that must fail
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: client HOST:PORT TOPIC COUNT")
	}
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	found, err := run(ctx, conn, os.Args[2], count)
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(found))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, conn *grpc.ClientConn, topic string, count int) (*report, error) {
	broker := pb.NewBrokerClient(conn)
	created, err := pb.NewAdminClient(conn).CreateTopic(ctx, &pb.CreateTopicRequest{
		Name: topic, Partitions: partitions, ReplicationFactor: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	found := &report{ClusterID: created.Header.ClusterId}
	if found.Keyed, err = produceKeyed(ctx, broker, topic, count); err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	if found.Streamed, err = produceStream(ctx, broker, topic, count); err != nil {
		return nil, fmt.Errorf("produce stream: %w", err)
	}
	offsets, err := broker.ListOffsets(ctx, &pb.ListOffsetsRequest{Topic: topic, Partitions: []uint32{0}})
	if err != nil {
		return nil, fmt.Errorf("offsets: %w", err)
	}
	if found.Read, err = subscribe(ctx, broker, topic, offsets.Partitions[0].HighWatermark); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	found.Refused, err = refusal(ctx, broker)
	return found, err
}

// The server deals the records to their keys' partitions.
func produceKeyed(ctx context.Context, broker pb.BrokerClient, topic string, count int) ([]int, error) {
	request := &pb.ProduceRequest{Topic: topic}
	for n := range count {
		request.Records = append(request.Records, &pb.Record{
			Key: fmt.Appendf(nil, "key %d", n%20), Value: fmt.Appendf(nil, "keyed %d", n),
		})
	}
	answer, err := broker.Produce(ctx, request)
	if err != nil {
		return nil, err
	}
	perPartition := make([]int, partitions)
	for _, result := range answer.Results {
		if result.GetError() != nil {
			return nil, errors.New(result.GetError().Message)
		}
		perPartition[result.Partition] += len(result.RecordPositions)
	}
	return perPartition, nil
}

// One record a batch, all under way at once; results come as they are settled.
func produceStream(ctx context.Context, broker pb.BrokerClient, topic string, count int) ([]uint64, error) {
	producer, err := broker.InitProducer(ctx, &pb.InitProducerRequest{})
	if err != nil {
		return nil, err
	}
	stream, err := broker.ProduceStream(ctx)
	if err != nil {
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		for n := range count {
			request, err := numbered(producer.ProducerId, topic, n)
			if err == nil {
				err = stream.Send(request)
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	offsets := make([]uint64, count)
	for {
		result, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return offsets, <-sent
		}
		if err != nil {
			return nil, err
		}
		if result.GetError() != nil {
			return nil, fmt.Errorf("batch %d: %s", result.CorrelationId, result.GetError().Message)
		}
		offsets[result.CorrelationId] = result.GetResponse().Receipt.GetBaseOffset()
	}
}

// A batch is a serialised RecordSet beside its header. An idempotent producer numbers its records per partition, from 0.
func numbered(producer uint64, topic string, n int) (*pb.ProduceStreamRequest, error) {
	records, err := proto.Marshal(&pb.RecordSet{Records: []*pb.Record{{Value: fmt.Appendf(nil, "streamed %d", n)}}})
	if err != nil {
		return nil, err
	}
	header := &pb.BatchHeader{
		Count: 1, RawSize: uint32(len(records)), ProducerId: producer, FirstSequence: uint64(n),
	}
	return &pb.ProduceStreamRequest{
		CorrelationId: uint64(n),
		Produce: &pb.ProduceRequest{
			Topic: topic, Partition: proto.Uint32(0), Batch: &pb.RecordBatch{Header: header, Records: records},
		},
	}, nil
}

func subscribe(ctx context.Context, broker pb.BrokerClient, topic string, end uint64) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := broker.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	wanted := &pb.Subscription{Topic: topic, Partition: proto.Uint32(0), Offset: proto.Uint64(0)}
	if err := stream.Send(&pb.SubscribeRequest{Subscription: wanted, Records: 10, Bytes: 1 << 20}); err != nil {
		return nil, err
	}
	var values []string
	for uint64(len(values)) < end {
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		credit := &pb.SubscribeRequest{}
		for _, batch := range answer.Batches {
			var records pb.RecordSet
			if err := proto.Unmarshal(batch.Records, &records); err != nil {
				return nil, err
			}
			for _, record := range records.Records {
				values = append(values, string(record.Value))
			}
			credit.Records += uint64(batch.Header.Count)
			credit.Bytes += uint64(len(batch.Records))
		}
		if err := stream.Send(credit); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// What is wrong and what became of the call stand in two plain trailers.
func refusal(ctx context.Context, broker pb.BrokerClient) (string, error) {
	var trailer metadata.MD
	_, err := broker.Produce(ctx, &pb.ProduceRequest{Topic: "no-such-topic"}, grpc.Trailer(&trailer))
	if err == nil {
		return "", errors.New("a topic that nobody created was written to")
	}
	reason, outcome := trailer.Get("raftmq-reason"), trailer.Get("raftmq-outcome")
	if len(reason) != 1 || len(outcome) != 1 {
		return "", fmt.Errorf("an error without raftmq's trailers: %w", err)
	}
	return fmt.Sprintf("%s %s %s", status.Code(err), reason[0], outcome[0]), nil
}
