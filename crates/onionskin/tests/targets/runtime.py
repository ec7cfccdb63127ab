# A program of several threads that checks what it keeps, answers each line with its progress,
# and ends with 3 where something changed.
import ctypes, gc, json, os, signal, sys, threading, time

ctypes.CDLL(None).prctl(1, signal.SIGKILL)
rounds = [0] * 3
stop = False


def work(me):
    keep = {}
    while not stop:
        n = rounds[me]
        keep[n % 500] = [str(n + i) for i in range(50)]
        old = keep.get((n * 7) % 500)
        if old and any(int(b) - int(a) != 1 for a, b in zip(old, old[1:])):
            os._exit(3)
        before = time.monotonic()
        if n % 50 == 0:
            time.sleep(0.002)
            if time.monotonic() - before < 0.002:
                os._exit(3)
            gc.collect(0)
        rounds[me] += 1


threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
print(json.dumps({"pid": os.getpid()}), flush=True)
for line in sys.stdin:
    if line == "quit\n":
        break
    print(json.dumps({"rounds": sum(rounds)}), flush=True)
stop = True
for thread in threads:
    thread.join()
