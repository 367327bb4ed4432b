"""Canaries: what `lane_tls.openssl` knows of pyOpenSSL's inside is still so."""

import inspect

from OpenSSL import SSL


def test_what_is_written_goes_where_we_look_for_the_rest():
    assert "_lib.BIO_write(self._into_ssl, data, len(data))" in inspect.getsource(SSL.Connection.bio_write)
    source = inspect.getsource(SSL.Connection.__init__)
    assert "_lib.SSL_set_bio(self._ssl, self._into_ssl, self._from_ssl)" in source


def test_secrets_are_logged_as_pyopenssl_has_them_logged():
    source = inspect.getsource(SSL.Context.set_keylog_callback)
    assert "_lib.SSL_CTX_set_keylog_callback(self._context, self._keylog_callback)" in source
    assert '"void (*)(const SSL *, const char *)"' in source
