import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

/** Sends the requests of a file, one `METHOD TAB PATH TAB BODY` a line, and prints status and digest of each answer. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        boolean chunked = arguments[2].equals("chunked");
        HttpClient client = HttpClient.newHttpClient();  // of HTTP/2, which it offers with every new connection
        int sent = 0;
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            String[] parts = line.split("\t", -1);
            byte[] body = parts[2].getBytes("UTF-8");
            var publisher = body.length == 0 ? BodyPublishers.noBody()
                : chunked ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                : BodyPublishers.ofByteArray(body);
            var request = HttpRequest.newBuilder(URI.create(arguments[0] + parts[1])).method(parts[0], publisher)
                .header("content-type", "application/json").header("x-request-id", "campaign").build();
            if (sent++ % 3 == 0) client = HttpClient.newHttpClient();
            var answer = client.send(request, BodyHandlers.ofByteArray());
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(answer.body());
            System.out.println(answer.statusCode() + " " + HexFormat.of().formatHex(digest));
        }
    }
}
