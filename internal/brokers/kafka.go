package brokers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kafka is Apache Kafka 0.9 with its ZooKeeper: old, but the real thing, with
// real groups, logs and coordinators, and it starts in two seconds. It comes
// in an npm package (.ci/install); no registry that the tests may use has a
// newer one. What it does not know yet (headers, SASL, transactions) is tested
// against kfake.
var Kafka = Kind{name: "kafka", commands: func(b *Broker) ([]command, error) {
	if b.Options.Password != "" || b.Options.TLS != nil {
		return nil, fmt.Errorf("this version has no passwords and its TLS needs Java's own key stores: use kfake")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	libs, err := filepath.Glob(filepath.Join(cache, "hearth-tests", "kafka-0.9.0.1", "libs", "*.jar"))
	if err != nil {
		return nil, err
	}
	if len(libs) == 0 {
		return nil, fmt.Errorf("it is not in %s: run .ci/install", filepath.Join(cache, "hearth-tests"))
	}
	if len(b.procs) == 0 || b.procs[0].gone() {
		if b.helper, err = freePort(); err != nil {
			return nil, err
		}
	}
	zk, err := b.file("zookeeper.properties", fmt.Sprintf(
		"dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\ntickTime=1000\n", filepath.Join(b.dir, "zookeeper"), b.helper))
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(b.Addr, ":")
	server, err := b.file("server.properties", strings.Join([]string{
		"broker.id=0",
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d", b.port),
		"advertised.listeners=PLAINTEXT://" + host + ":" + port,
		"log.dirs=" + filepath.Join(b.dir, "logs"),
		fmt.Sprintf("zookeeper.connect=127.0.0.1:%d", b.helper),
		// A killed broker may come back when ZooKeeper has forgotten it.
		"zookeeper.session.timeout.ms=3000",
		"offsets.topic.num.partitions=1", "offsets.topic.replication.factor=1",
		"group.min.session.timeout.ms=500",
		"num.partitions=2", "num.io.threads=2", "num.network.threads=1",
		"log.flush.interval.messages=1",
		"log.cleaner.enable=false",
	}, "\n"))
	if err != nil {
		return nil, err
	}
	log, err := b.file("log4j.properties", "log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"+
		"log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%p %m (%c)%n\n")
	if err != nil {
		return nil, err
	}
	java := func(args ...string) []string {
		return append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
			"-Dlog4j.configuration=file:" + log, "-cp", strings.Join(libs, ":")}, args...)
	}
	return []command{
		{path: "java", args: java("org.apache.zookeeper.server.quorum.QuorumPeerMain", zk), says: "binding to port"},
		{path: "java", args: java("kafka.Kafka", server), says: "started (kafka.server.KafkaServer)"},
	}, nil
}}
