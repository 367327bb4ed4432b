/* Packets with a short header, sealed and opened many at once: `Protection` of protection.py, in C.

   Python spends more on a packet than its encryption takes: slices, nonces, calls, and a header to compare. Here
   a call seals all packets of a batch, or opens a train of packets, and joins the data of frames that continue
   each other. protection.py has the same in Python, for machines without a compiler, and says what each method
   does; tests/unit/lane_quic/fastpath/test_protection.py compares the two, byte by byte.

   Lengths come from peers: each is checked before a byte is read or written. What is not a common packet is left
   alone, as it came. The limited API of CPython (3.11) lets one binary serve all versions. The interpreter's lock
   guards the two buffers below, and no call collects garbage: a finalizer could use them in the middle of it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

enum {
    TAG = 16, IV = 12, SAMPLE = 16, MASK = 5,
    NUMBER = 2,                    /* bytes of a packet number: both sides write two */
    MOST_HEAD = 1 + 20,            /* the first byte and a connection ID (RFC 9000 section 17.2) */
    MOST = 65535,                  /* bytes of a UDP payload */
    MOST_JOINED = 65000,           /* bytes of joined packets, and of the data in joined frames */
    TOGETHER = 64,                 /* packets that the kernel takes in one call */
    USUAL = 0x0E, UNBOUNDED = 0x0C /* a STREAM frame with offset and length; one that ends with its packet */
};

static const uint64_t MOST_OFFSET = (1ULL << 62) - 1;

typedef struct {
    PyObject_HEAD
    EVP_CIPHER_CTX *aead, *hp;
    unsigned char iv[IV];
    int chacha;
} Protection;

static unsigned char plain[MOST], joined[MOST + 1]; /* one payload; several packets, or the frames of several */

/* Ciphers. */

static int set_nonce(Protection *self, uint64_t number)
{
    unsigned char nonce[IV];
    memcpy(nonce, self->iv, IV);
    for (int i = 0; i < 8; i++)
        nonce[IV - 1 - i] ^= (unsigned char)(number >> 8 * i);
    return EVP_CipherInit_ex(self->aead, NULL, NULL, NULL, nonce, -1);
}

/* Encrypt `size` bytes in place. The tag follows them. */
static int seal(Protection *self, uint64_t number, const unsigned char *header, int header_size,
                unsigned char *payload, int size)
{
    int n;
    return set_nonce(self, number) && EVP_EncryptUpdate(self->aead, NULL, &n, header, header_size)
        && EVP_EncryptUpdate(self->aead, payload, &n, payload, size)
        && EVP_EncryptFinal_ex(self->aead, payload + size, &n)
        && EVP_CIPHER_CTX_ctrl(self->aead, EVP_CTRL_AEAD_GET_TAG, TAG, payload + size);
}

/* Decrypt `size` bytes, of which the last are the tag. False if they were not sealed with this header. */
static int unseal(Protection *self, uint64_t number, const unsigned char *header, int header_size,
                  const unsigned char *payload, int size, unsigned char *out)
{
    int n;
    unsigned char tag[TAG];
    memcpy(tag, payload + size - TAG, TAG);
    if (set_nonce(self, number) && EVP_DecryptUpdate(self->aead, NULL, &n, header, header_size)
        && EVP_DecryptUpdate(self->aead, out, &n, payload, size - TAG)
        && EVP_CIPHER_CTX_ctrl(self->aead, EVP_CTRL_AEAD_SET_TAG, TAG, tag)
        && EVP_DecryptFinal_ex(self->aead, out + n, &n) > 0)
        return 1;
    ERR_clear_error(); /* Python's ssl would take what is left in the queue for its own */
    return 0;
}

/* The masks of `count` samples, in place; each has MASK bytes or more (RFC 9001 section 5.4). */
static int mask_all(Protection *self, unsigned char samples[][SAMPLE], int count)
{
    static const unsigned char zeros[MASK];
    int n;
    if (!self->chacha)
        return EVP_EncryptUpdate(self->hp, samples[0], &n, samples[0], count * SAMPLE);
    for (int i = 0; i < count; i++) {
        unsigned char mask[MASK];
        if (!EVP_EncryptInit_ex(self->hp, NULL, NULL, NULL, samples[i])
            || !EVP_EncryptUpdate(self->hp, mask, &n, zeros, MASK))
            return 0;
        memcpy(samples[i], mask, MASK);
    }
    return 1;
}

static PyObject *failed(void)
{
    ERR_clear_error();
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a packet cannot be sealed so");
    return NULL;
}

/* Integers of QUIC (RFC 9000 section 16). */

static int width_of(uint64_t value)
{
    return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x40000000 ? 4 : 8;
}

static void put_varint(unsigned char *at, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        at[width - 1 - i] = (unsigned char)(value >> 8 * i);
    at[0] |= (unsigned char)((width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3) << 6);
}

/* Its width; 0 if it is cut off. */
static int get_varint(const unsigned char *at, const unsigned char *end, uint64_t *value)
{
    int width = at < end ? 1 << (*at >> 6) : 0;
    if (!width || end - at < width)
        return 0;
    *value = *at & 0x3F;
    for (int i = 1; i < width; i++)
        *value = *value << 8 | at[i];
    return width;
}

/* Sealing. */

/* Packets of one size in `joined`, of which the last may be shorter: what the kernel takes in one call. Their
   headers are protected when it is complete. */
typedef struct {
    Protection *protection;
    PyObject *found;
    const unsigned char *head;
    int head_size, count, ended;
    Py_ssize_t size, used;
} Train;

static int end_train(Train *train)
{
    unsigned char samples[TOGETHER][SAMPLE], *at = joined;
    if (!train->count)
        return 1;
    for (int i = 0; i < train->count; i++)
        memcpy(samples[i], joined + i * train->size + train->head_size + 4, SAMPLE);
    if (!mask_all(train->protection, samples, train->count))
        return 0;
    for (int i = 0; i < train->count; i++, at += train->size) {
        at[0] ^= samples[i][0] & 0x1F;
        at[train->head_size] ^= samples[i][1];
        at[train->head_size + 1] ^= samples[i][2];
    }
    PyObject *one = Py_BuildValue("(y#n)", joined, train->used, train->size);
    int added = one && !PyList_Append(train->found, one);
    Py_XDECREF(one);
    train->count = train->ended = 0;
    train->used = 0;
    return added;
}

/* Add a packet with the payload `lead` and `data`. */
static int add_packet(Train *train, uint64_t number, const unsigned char *lead, Py_ssize_t lead_size,
                      const unsigned char *data, Py_ssize_t data_size)
{
    int header_size = train->head_size + NUMBER;
    Py_ssize_t size = header_size + lead_size + data_size + TAG;
    if (data_size + lead_size < 4 - NUMBER || size > MOST)
        return 0;
    if (train->count == TOGETHER || train->ended || size > train->size || train->used + size > MOST_JOINED)
        if (!end_train(train))
            return 0;
    if (!train->count)
        train->size = size;
    unsigned char *at = joined + train->used, *payload = at + header_size;
    memcpy(at, train->head, train->head_size);
    at[train->head_size] = (unsigned char)(number >> 8);
    at[train->head_size + 1] = (unsigned char)number;
    memcpy(payload, lead, lead_size);
    memcpy(payload + lead_size, data, data_size);
    train->used += size;
    train->count++;
    train->ended = size < train->size;
    return seal(train->protection, number, at, header_size, payload, (int)(lead_size + data_size));
}

/* Add the packets of a row: `count` frames of `size` bytes each, from `buffer[at]` on. Their number; 0: it fails. */
static Py_ssize_t add_row(Train *train, uint64_t number, PyObject *row)
{
    const char *name;
    Py_ssize_t name_size, size, count, at, added = 0;
    unsigned long long offset;
    unsigned char lead[1 + 8 + 8 + 2];
    Py_buffer view;
    if (!PyTuple_Check(row)
        || !PyArg_ParseTuple(row, "y#Knny*n", &name, &name_size, &offset, &size, &count, &view, &at))
        return 0;
    if (name_size > 8 || size < 1 || size > 0x3FFF || count < 1 || at < 0 || at > view.len
        || count > (view.len - at) / size || offset > MOST_OFFSET - (uint64_t)(count * size)
        || width_of(offset) != width_of(offset + (uint64_t)((count - 1) * size))) {
        PyBuffer_Release(&view);
        return 0;
    }
    int width = width_of(offset), length_at = 1 + (int)name_size + width;
    lead[0] = USUAL;
    memcpy(lead + 1, name, name_size);
    put_varint(lead + length_at, (uint64_t)size, 2);
    for (; added < count; added++) {
        put_varint(lead + 1 + name_size, offset + (uint64_t)(added * size), width);
        if (!add_packet(train, number + (uint64_t)added, lead, length_at + 2,
                        (unsigned char *)view.buf + at + added * size, size))
            break;
    }
    PyBuffer_Release(&view);
    return added == count ? count : 0;
}

static PyObject *seal_all(Protection *self, PyObject *args)
{
    Py_ssize_t head_size, added = 1;
    unsigned long long number;
    PyObject *payloads;
    Train train = {.protection = self};
    if (!PyArg_ParseTuple(args, "y#KO", &train.head, &head_size, &number, &payloads))
        return NULL;
    if (!PyList_Check(payloads) || head_size < 1 || head_size > MOST_HEAD)
        return failed();
    train.head_size = (int)head_size;
    if (!(train.found = PyList_New(0)))
        return NULL;
    for (Py_ssize_t i = 0; added && i < PyList_Size(payloads); i++, number += (uint64_t)added) {
        PyObject *item = PyList_GetItem(payloads, i);
        added = !PyBytes_Check(item) ? add_row(&train, number, item)
            : add_packet(&train, number, train.head, 0, (unsigned char *)PyBytes_AsString(item), PyBytes_Size(item));
    }
    if (!added || !end_train(&train)) {
        Py_DECREF(train.found);
        return failed();
    }
    return train.found;
}

/* Opening. */

/* Whether a datagram may be a packet of this connection that is long enough to be read. */
static int is_ours(PyObject *datagram, const unsigned char *head, Py_ssize_t head_size)
{
    if (!PyBytes_Check(datagram))
        return 0;
    const unsigned char *at = (unsigned char *)PyBytes_AsString(datagram);
    Py_ssize_t size = PyBytes_Size(datagram);
    return size >= head_size + 4 + SAMPLE && size <= MOST && (at[0] & 0xC0) == 0x40
        && !memcmp(at + 1, head + 1, head_size - 1);
}

/* A payload that is one STREAM frame: its data are `joined` or `plain` from `data_at` on. */
typedef struct {
    uint64_t stream, offset;
    Py_ssize_t offset_at, data_at, size;
} Frame;

/* Read a payload of `size` bytes. False if it is not one frame of the usual kind. */
static int read_frame(const unsigned char *at, Py_ssize_t size, Frame *frame)
{
    const unsigned char *end = at + size;
    uint64_t length;
    int name = 0, offset = 0, filled = 0;
    if (*at != USUAL || !(name = get_varint(at + 1, end, &frame->stream))
        || !(offset = get_varint(at + 1 + name, end, &frame->offset))
        || !(filled = get_varint(at + 1 + name + offset, end, &length)))
        return 0;
    frame->offset_at = 1 + name;
    frame->data_at = 1 + name + offset + filled;
    frame->size = size - frame->data_at;
    return frame->size > 0 && length == (uint64_t)frame->size;
}

/* Packets whose frames continue each other, in `joined`: see `Protection.open_row`. */
typedef struct {
    PyObject *found;
    Py_ssize_t count, size, data; /* packets, bytes of them, and how many of these are data */
    int usual;                    /* whether `frame` is the last packet's */
    Frame frame;
} Run;

static int end_run(Run *run)
{
    PyObject *one = run->count ? Py_BuildValue("(ny#)", run->count, joined, run->size) : NULL;
    int added = !run->count || (one && !PyList_Append(run->found, one));
    Py_XDECREF(one);
    run->count = 0;
    return added;
}

/* Add the payload in `plain` to the run, or begin another run with it. */
static int add_payload(Run *run, Py_ssize_t size)
{
    Frame frame;
    int usual = read_frame(plain, size, &frame);
    if (run->count && run->usual && usual && frame.stream == run->frame.stream
        && frame.offset == run->frame.offset + (uint64_t)run->frame.size && run->data + frame.size <= MOST_JOINED) {
        if (run->count == 1) { /* the first frame loses its length: it ends with what is joined */
            Py_ssize_t width = run->size - run->frame.size;
            Py_ssize_t lead = run->frame.offset_at + (1 << (joined[run->frame.offset_at] >> 6));
            joined[0] = UNBOUNDED;
            memmove(joined + lead, joined + width, run->frame.size);
            run->size -= width - lead;
        }
        memcpy(joined + run->size, plain + frame.data_at, frame.size);
        run->size += frame.size;
        run->data += frame.size;
        run->count++;
        run->frame = frame;
        return 1;
    }
    if (!end_run(run))
        return 0;
    memcpy(joined, plain, size);
    run->size = size;
    run->count = 1;
    run->usual = usual;
    run->frame = frame;
    run->data = usual ? frame.size : 0;
    return 1;
}

static PyObject *open_row(Protection *self, PyObject *args)
{
    const unsigned char *head;
    unsigned char header[MOST_HEAD + NUMBER];
    Py_ssize_t head_size, start;
    unsigned long long number;
    PyObject *datagrams;
    int fine = 1;
    Run run = {0};
    if (!PyArg_ParseTuple(args, "y#KOn", &head, &head_size, &number, &datagrams, &start))
        return NULL;
    if (head_size < 1 || head_size > MOST_HEAD)
        return failed();
    if (!(run.found = PyList_New(0)))
        return NULL;
    memcpy(header, head, head_size);
    int header_size = (int)head_size + NUMBER;
    Py_ssize_t total = PySequence_Size(datagrams);
    for (Py_ssize_t i = start; fine && i < total; i++, number++) {
        PyObject *datagram = PySequence_GetItem(datagrams, i);
        int opened = 0;
        if (datagram && is_ours(datagram, head, head_size)) {
            const unsigned char *at = (unsigned char *)PyBytes_AsString(datagram);
            int size = (int)PyBytes_Size(datagram) - header_size;
            header[head_size] = (unsigned char)(number >> 8);
            header[head_size + 1] = (unsigned char)number;
            opened = unseal(self, number, header, header_size, at + header_size, size, plain);
            fine = !opened || add_payload(&run, size - TAG);
        }
        Py_XDECREF(datagram);
        if (!opened)
            break;
    }
    if (!end_run(&run) || PyErr_Occurred()) {
        Py_DECREF(run.found);
        return NULL;
    }
    return run.found;
}

/* The packet number nearest to `expected` with the low bits `truncated` (RFC 9000 appendix A.3). */
static uint64_t nearest(uint64_t truncated, uint64_t expected)
{
    uint64_t ahead = (truncated - expected) & 0xFFFF, number = expected + ahead;
    return ahead > 0x8000 && number >= 0x10000 ? number - 0x10000 : number;
}

static PyObject *open_one(Protection *self, PyObject *args)
{
    const unsigned char *head;
    unsigned char header[MOST_HEAD + NUMBER], samples[1][SAMPLE];
    Py_ssize_t head_size;
    unsigned long long expected;
    PyObject *datagram;
    if (!PyArg_ParseTuple(args, "y#KO", &head, &head_size, &expected, &datagram))
        return NULL;
    if (head_size < 1 || head_size > MOST_HEAD)
        return failed();
    if (!is_ours(datagram, head, head_size))
        Py_RETURN_NONE;
    const unsigned char *at = (unsigned char *)PyBytes_AsString(datagram), *mask = samples[0];
    memcpy(samples[0], at + head_size + 4, SAMPLE);
    if (!mask_all(self, samples, 1))
        return failed();
    memcpy(header, at, head_size + NUMBER);
    header[0] ^= mask[0] & 0x1F;
    header[head_size] ^= mask[1];
    header[head_size + 1] ^= mask[2];
    uint64_t number = nearest((uint64_t)header[head_size] << 8 | header[head_size + 1], expected);
    int header_size = (int)head_size + NUMBER, size = (int)PyBytes_Size(datagram) - header_size;
    if (((header[0] ^ head[0]) & 0x1F)
        || !unseal(self, number, header, header_size, at + header_size, size, plain))
        Py_RETURN_NONE;
    return Py_BuildValue("(Kiy#)", number, (int)header[0], plain, (Py_ssize_t)(size - TAG));
}

/* The type. */

static PyObject *undisturbed(PyObject *(*method)(Protection *, PyObject *), PyObject *self, PyObject *args)
{
    int collects = PyGC_Disable();
    PyObject *found = method((Protection *)self, args);
    if (collects)
        PyGC_Enable();
    return found;
}

static PyObject *Protection_seal(PyObject *self, PyObject *args)
{
    return undisturbed(seal_all, self, args);
}

static PyObject *Protection_open_row(PyObject *self, PyObject *args)
{
    return undisturbed(open_row, self, args);
}

static PyObject *Protection_open_one(PyObject *self, PyObject *args)
{
    return undisturbed(open_one, self, args);
}

static PyObject *Protection_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    const char *suite;
    const unsigned char *key, *iv, *hp;
    Py_ssize_t key_size, iv_size, hp_size;
    int seals;
    if (!PyArg_ParseTuple(args, "sy#y#y#p", &suite, &key, &key_size, &iv, &iv_size, &hp, &hp_size, &seals))
        return NULL;
    Protection *self = (Protection *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    int chacha = self->chacha = !strcmp(suite, "chacha20-poly1305"), wide = !strcmp(suite, "aes-256-gcm");
    const EVP_CIPHER *aead = chacha ? EVP_chacha20_poly1305() : wide ? EVP_aes_256_gcm() : EVP_aes_128_gcm();
    const EVP_CIPHER *mask = chacha ? EVP_chacha20() : wide ? EVP_aes_256_ecb() : EVP_aes_128_ecb();
    self->aead = EVP_CIPHER_CTX_new();
    self->hp = EVP_CIPHER_CTX_new();
    if ((!chacha && !wide && strcmp(suite, "aes-128-gcm")) || key_size != (chacha || wide ? 32 : 16)
        || iv_size != IV || hp_size != key_size || !self->aead || !self->hp
        || !EVP_CipherInit_ex(self->aead, aead, NULL, key, NULL, seals)
        || !EVP_EncryptInit_ex(self->hp, mask, NULL, hp, NULL)) {
        Py_DECREF(self);
        ERR_clear_error();
        PyErr_SetString(PyExc_ValueError, "no such cipher, or keys of another size");
        return NULL;
    }
    EVP_CIPHER_CTX_set_padding(self->hp, 0);
    memcpy(self->iv, iv, IV);
    return (PyObject *)self;
}

static void Protection_dealloc(Protection *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    EVP_CIPHER_CTX_free(self->aead); /* wipes the keys */
    EVP_CIPHER_CTX_free(self->hp);
    OPENSSL_cleanse(self->iv, IV);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"seal", Protection_seal, METH_VARARGS, NULL},
    {"open_row", Protection_open_row, METH_VARARGS, NULL},
    {"open_one", Protection_open_one, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, Protection_new},
    {Py_tp_dealloc, Protection_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {"lane_quic.fastpath.native.Protection", sizeof(Protection), 0, Py_TPFLAGS_DEFAULT, slots};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_native(void)
{
    PyObject *made = PyModule_Create(&module), *type = made ? PyType_FromSpec(&spec) : NULL;
    if (!type || PyModule_AddObject(made, "Protection", type)) {
        Py_XDECREF(type);
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
