# Varnish with what it does by itself. Started with `-s malloc,1g -p thread_pools=1 -p thread_pool_min=100 -p thread_pool_max=2000`:
# one pool, but a thread for each request under way, as its design wants it.
vcl 4.1;
backend default {
    .host = "{origin_host}";
    .port = "{origin_port}";
}
