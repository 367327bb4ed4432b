/* Records of TLS 1.3, sealed and opened many at once: `seal` and `open_data` of portable.py, in C.

   Python spends a third of what the encryption of a record takes on views of the buffers, a nonce, and a header to
   compare. The ciphers stay those of the package `cryptography`, whose OpenSSL is newer and faster than
   that of most systems. So this file knows no cryptography, and only Python's headers are needed to build it.

   Lengths come from peers: each is checked before a byte is read or written. The limited API of CPython (3.11) lets
   one binary serve all versions. portable.py says what the functions do, and the same tests run on both. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
    HEADER = 5, FULL = 16384, TAG = 16, IV = 12, DATA = 23,
    OVERHEAD = HEADER + 1 + TAG,
    LEAST_SEALED = 2 + TAG, /* a byte of data, its type, the tag */
    FULL_SEALED = FULL + 1 + TAG
};

/* Have `cipher` (`encrypt_into` or `decrypt_into`) work on record `number`, from one memory to another. */
static int work(PyObject *cipher, const unsigned char *iv, uint64_t number, const unsigned char *header,
                const unsigned char *from, Py_ssize_t size, unsigned char *to, Py_ssize_t room)
{
    unsigned char bytes[IV];
    memcpy(bytes, iv, IV);
    for (int i = 0; i < 8; i++)
        bytes[IV - 1 - i] ^= (unsigned char)(number >> 8 * i);
    PyObject *nonce = PyBytes_FromStringAndSize((char *)bytes, IV);
    PyObject *lead = PyBytes_FromStringAndSize((char *)header, HEADER);
    PyObject *in = PyMemoryView_FromMemory((char *)from, size, PyBUF_READ);
    PyObject *out = PyMemoryView_FromMemory((char *)to, room, PyBUF_WRITE);
    PyObject *done = nonce && lead && in && out ? PyObject_CallFunctionObjArgs(cipher, nonce, in, lead, out, NULL) : NULL;
    Py_XDECREF(nonce);
    Py_XDECREF(lead);
    Py_XDECREF(in);
    Py_XDECREF(out);
    Py_XDECREF(done);
    return done != NULL;
}

static PyObject *seal(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *encrypt, *end = NULL;
    const unsigned char *iv;
    unsigned long long number;
    Py_buffer out, head, data;
    Py_ssize_t iv_size, at, taken = 0;
    int kind;
    if (!PyArg_ParseTuple(args, "Oy#Kw*niy*y*", &encrypt, &iv, &iv_size, &number, &out, &at, &kind, &head, &data))
        return NULL;
    Py_ssize_t lead = head.len, whole = lead + data.len, records = whole ? (whole + FULL - 1) / FULL : 1;
    if (iv_size != IV || lead > FULL || at < 0 || out.len < at || out.len - at < whole + records * OVERHEAD) {
        PyErr_SetString(PyExc_ValueError, "there is no room for the records");
        goto finish;
    }
    for (; records; records--, number++) {
        /* On the stack: a finalizer may seal something else in the middle of this. */
        unsigned char content[FULL + 1], *record = (unsigned char *)out.buf + at;
        Py_ssize_t size = data.len - taken < FULL - lead ? data.len - taken : FULL - lead;
        memcpy(content, head.buf, (size_t)lead);
        memcpy(content + lead, (unsigned char *)data.buf + taken, (size_t)size);
        taken += size;
        size += lead;
        lead = 0;
        content[size++] = (unsigned char)kind;
        const unsigned char header[HEADER] = {DATA, 3, 3, (unsigned char)((size + TAG) >> 8), (unsigned char)(size + TAG)};
        memcpy(record, header, HEADER);
        if (!work(encrypt, iv, number, header, content, size, record + HEADER, size + TAG))
            goto finish;
        at += HEADER + size + TAG;
    }
    end = PyLong_FromSsize_t(at);
finish:
    PyBuffer_Release(&out);
    PyBuffer_Release(&head);
    PyBuffer_Release(&data);
    return end;
}

static PyObject *open_data(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *decrypt, *found = NULL;
    const unsigned char *iv;
    unsigned long long number;
    Py_buffer sealed, plain;
    Py_ssize_t iv_size, start, made, limit;
    if (!PyArg_ParseTuple(args, "Oy#Ky*nw*nn", &decrypt, &iv, &iv_size, &number, &sealed, &start, &plain, &made, &limit))
        return NULL;
    if (iv_size != IV || start < 0 || made < 0 || limit >= plain.len) {
        PyErr_SetString(PyExc_ValueError, "there is no room for the data");
        goto finish;
    }
    while (sealed.len - start >= HEADER) {
        const unsigned char *record = (unsigned char *)sealed.buf + start;
        unsigned char *content = (unsigned char *)plain.buf + made;
        Py_ssize_t size = record[3] << 8 | record[4], length = size - TAG - 1;
        if (record[0] != DATA || size < LEAST_SEALED || size > FULL_SEALED
            || sealed.len - start - HEADER < size || limit - made < length)
            break;
        if (!work(decrypt, iv, number, record, record + HEADER, size, content, length + 1)) {
            if (!PyErr_ExceptionMatches(PyExc_Exception))
                goto finish;
            PyErr_Clear(); /* the caller tries this record again, and says what is wrong with it */
            break;
        }
        if (content[length] != DATA)
            break;
        number++;
        start += HEADER + size;
        made += length;
    }
    found = Py_BuildValue("(Knn)", number, start, made);
finish:
    PyBuffer_Release(&sealed);
    PyBuffer_Release(&plain);
    return found;
}

static PyMethodDef methods[] = {
    {"seal", seal, METH_VARARGS, NULL},
    {"open_data", open_data, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_native(void)
{
    return PyModule_Create(&module);
}
