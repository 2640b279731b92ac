package bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** bench/stream_job.py on Kafka Streams: exactly_once_v2, one thread, RocksDB with its changelog. */
public final class Job {
    private static final int HEADER = 5;

    /** Compares the ports of a sighting with the state, writes what differs, and emits it. */
    private static final class Comparing implements Processor<String, byte[], String, byte[]> {
        private final GenericDatumReader<GenericRecord> reader;
        private final GenericDatumWriter<GenericRecord> writer;
        private final Schema changeSchema;
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();
        private final byte[] header;
        private GenericRecord sighting;
        private BinaryDecoder decoder;
        private BinaryEncoder encoder;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> store;

        Comparing(Schema sightingSchema, Schema changeSchema, byte[] header) {
            this.reader = new GenericDatumReader<>(sightingSchema);
            this.writer = new GenericDatumWriter<>(changeSchema);
            this.changeSchema = changeSchema;
            this.header = header;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.store = context.getStateStore("ports");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            byte[] value = record.value();
            try {
                decoder = DecoderFactory.get().binaryDecoder(value, HEADER, value.length - HEADER, decoder);
                sighting = reader.read(sighting, decoder);
                String asset = sighting.get("asset").toString();
                byte[] now = packed((List<?>) sighting.get("ports"));
                byte[] before = store.get(asset);
                if (Arrays.equals(before, now)) {
                    return;
                }
                store.put(asset, now);
                context.forward(new Record<>(asset, change(asset, before == null ? new byte[0] : before, now), record.timestamp()));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private byte[] change(String asset, byte[] before, byte[] now) throws IOException {
            GenericRecord change = new GenericData.Record(changeSchema);
            change.put("asset", asset);
            change.put("before", unpacked(before));
            change.put("after", unpacked(now));
            change.put("at", sighting.get("at"));
            out.reset();
            out.write(header);
            encoder = EncoderFactory.get().directBinaryEncoder(out, encoder);
            writer.write(change, encoder);
            encoder.flush();
            return out.toByteArray();
        }

        private GenericData.Array<Integer> unpacked(byte[] ports) {
            Schema type = changeSchema.getField("before").schema();
            GenericData.Array<Integer> found = new GenericData.Array<>(ports.length / 2, type);
            ByteBuffer buffer = ByteBuffer.wrap(ports);
            while (buffer.hasRemaining()) {
                found.add(Short.toUnsignedInt(buffer.getShort()));
            }
            return found;
        }

        private static byte[] packed(List<?> ports) {
            ByteBuffer buffer = ByteBuffer.allocate(2 * ports.size());
            for (Object port : ports) {
                buffer.putShort(((Integer) port).shortValue());
            }
            return buffer.array();
        }
    }

    /** Arguments: bootstrap, application id, input, output, state folder, partitions, the two schemas as JSON, the header of a change in hex. */
    public static void main(String[] arguments) throws InterruptedException {
        Schema sighting = new Schema.Parser().parse(arguments[6]);
        Schema change = new Schema.Parser().parse(arguments[7]);
        byte[] header = java.util.HexFormat.of().parseHex(arguments[8]);
        Topology topology = new Topology();
        topology.addSource("in", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), arguments[2]);
        topology.addProcessor("compare", () -> new Comparing(sighting, change, header), "in");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("ports"), Serdes.String(), Serdes.ByteArray())
                        .withCachingEnabled(),
                "compare");
        topology.addSink("out", arguments[3], Serdes.String().serializer(), Serdes.ByteArray().serializer(), "compare");
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        config.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        KafkaStreams streams = new KafkaStreams(topology, config);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(java.time.Duration.ofSeconds(10));
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }
}
