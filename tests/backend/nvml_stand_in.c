/* A libnvidia-ml.so.1 with two GPUs, so that pynvml's own code runs without a driver.

   The environment variable NVML_STAND_IN names a file of rules, one a line. Each call reads it again:

       <function or *> <GPU or *> <NVML's error code, or "hang">
       mig <GPU> on
       latin-1 <GPU or *> on             (names have a letter that is not UTF-8)

   A call hangs as long as its rule is in the file. The first matching rule applies. If a function
   concerns no GPU, such as nvmlShutdown, the rule's second word must be *. The name of each called function
   is added to a second file, $NVML_STAND_IN.calls. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { NO_GPU = -1, GPUS = 2, MIG_PLACES = 7 };
#define GIB (1ull << 30)

struct device { int gpu; int mig; }; /* mig: place of the MIG device; -1 for the whole GPU */
struct memory { unsigned long long total, free, used; };
struct utilization { unsigned gpu, memory; };
struct temperature { unsigned version; int sensor; int celsius; };
struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static struct device gpus[GPUS] = {{0, -1}, {1, -1}};
static struct device migs[GPUS][MIG_PLACES];
static int initialized;

static int find_rule(const char *function, int gpu, char value[16]) {
    FILE *file = fopen(getenv("NVML_STAND_IN"), "r");
    char name[64], index[16], wanted[16];
    int found = 0, is_call = strcmp(function, "mig") && strcmp(function, "latin-1");
    snprintf(wanted, sizeof wanted, "%d", gpu);
    while (!found && fscanf(file, "%63s %15s %15s", name, index, value) == 3)
        found = (!strcmp(name, function) || (!strcmp(name, "*") && is_call)) &&
                (!strcmp(index, wanted) || !strcmp(index, "*"));
    fclose(file);
    return found;
}

static int obey_rule(const char *function, int gpu) {
    char value[16];
    while (find_rule(function, gpu, value)) {
        if (strcmp(value, "hang"))
            return atoi(value);
        usleep(1000);
    }
    return SUCCESS;
}

static int call(const char *function, int gpu) {
    char path[4096];
    snprintf(path, sizeof path, "%s.calls", getenv("NVML_STAND_IN"));
    FILE *calls = fopen(path, "a");
    fprintf(calls, "%s\n", function);
    fclose(calls);
    int code = obey_rule(function, gpu);
    return code || initialized || !strcmp(function, "nvmlInitWithFlags") ? code : UNINITIALIZED;
}

/* Returns from the calling function with the error code, if there is one. */
#define CALL(gpu) do { int code = call(__func__, gpu); if (code) return code; } while (0)

static int mig_is_on(int gpu) {
    char value[16];
    return find_rule("mig", gpu, value);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    CALL(NO_GPU);
    initialized++;
    return SUCCESS;
}

int nvmlShutdown(void) {
    CALL(NO_GPU);
    initialized--;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    CALL(NO_GPU);
    *count = GPUS;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device) {
    CALL((int)index);
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetName(struct device *device, char *name, unsigned length) {
    CALL(device->gpu);
    char value[16];
    if (find_rule("latin-1", device->gpu, value))
        snprintf(name, length, "Ger\xe4t %d", device->gpu);
    else
        snprintf(name, length, device->mig < 0 ? "Stand-in %d" : "Stand-in %d MIG 1g.5gb", device->gpu);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory) {
    CALL(device->gpu);
    memory->total = device->mig < 0 ? (device->gpu + 1) * 16 * GIB : 5 * GIB;
    memory->used = device->mig < 0 ? (device->gpu + 1) * GIB : 0;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *utilization) {
    CALL(device->gpu);
    utilization->gpu = device->gpu * 90;
    utilization->memory = 1;
    return SUCCESS;
}

int nvmlDeviceGetTemperatureV(struct device *device, struct temperature *temperature) {
    CALL(device->gpu);
    temperature->celsius = 40 + device->gpu;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *celsius) {
    (void)sensor;
    CALL(device->gpu);
    *celsius = 40 + device->gpu;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(struct device *device, unsigned *milliwatts) {
    CALL(device->gpu);
    *milliwatts = 100500 + device->gpu;
    return SUCCESS;
}

/* Two processes on the second GPU. The memory of the second process is unknown. */
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *device, unsigned *count, struct process *processes) {
    static const struct process running[2] = {{4001, GIB / 2, 0, 0}, {4002, ~0ull, 0, 0}};
    CALL(device->gpu);
    unsigned room = *count;
    *count = device->gpu == 1 ? 2 : 0;
    if (room < *count)
        return INSUFFICIENT_SIZE;
    if (*count)
        memcpy(processes, running, sizeof running);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(struct device *device, unsigned *current, unsigned *pending) {
    CALL(device->gpu);
    *current = *pending = mig_is_on(device->gpu);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct device *device, unsigned *count) {
    CALL(device->gpu);
    *count = MIG_PLACES;
    return SUCCESS;
}

/* Two MIG devices exist, in the second and third place. */
int nvmlDeviceGetMigDeviceHandleByIndex(struct device *device, unsigned place, struct device **mig) {
    CALL(device->gpu);
    if (place != 1 && place != 2)
        return NOT_FOUND;
    *mig = &migs[device->gpu][place];
    **mig = (struct device){device->gpu, (int)place};
    return SUCCESS;
}
