import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.concurrent.Executors;

/** The JDK's own HTTP server without shutdown code. */
public class Plain {
    static final byte[] BODY =
            (System.getenv().getOrDefault("REUSE_WORKER_ID", "-") + " " + ProcessHandle.current().pid() + "\n").getBytes();

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8080), 1024);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Plain::answer);
        server.createContext("/slow", exchange -> {
            pause(Integer.parseInt(exchange.getRequestURI().getQuery().substring("ms=".length())));
            answer(exchange);
        });
        server.createContext("/chunks", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            for (int left = 20; left > 0; left--) {
                exchange.getResponseBody().write("chunk\n".getBytes());
                exchange.getResponseBody().flush();
                if (left > 1) pause(100);
            }
            exchange.close();
        });
        server.createContext("/big", exchange -> {
            byte[] piece = new byte[1_000_000];
            Arrays.fill(piece, (byte) 'x');
            exchange.sendResponseHeaders(200, 50L * piece.length);
            for (int left = 50; left > 0; left--) exchange.getResponseBody().write(piece);
            exchange.close();
        });
        server.start();
    }

    static void answer(HttpExchange exchange) throws IOException {
        exchange.sendResponseHeaders(200, BODY.length);
        exchange.getResponseBody().write(BODY);
        exchange.close();
    }

    static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }
}
