package pkcs7test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

// Fixed returns an identity that is the same in every process, as a fuzz
// target needs it: seeds are made in one process and checked in another. The
// key is public, and so protects nothing.
func Fixed(t testing.TB) *Identity {
	t.Helper()
	b, _ := pem.Decode([]byte(fixedKey))
	if b == nil {
		t.Fatal("the fixed key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	return &Identity{key, Certify(t, "fixed", key, nil)}
}

const fixedKey = `-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC0bbFc4j0UHNXj
OAY8Q/sY9NCVfO1JhXn960uKF2SokxVaOzdSQeZJCYPtqcspjDlcEKBTzQ+xD4pr
/zPGeHrunKZ3U9PfRat9rr8GLDsYK/YZJYt1T3+U1n1kFJKCOcDf7AAVTSONzPkM
/v5KjSonXBvDuI24xBBIcvS3dm3tq3OPhKrSm9hhWdvjyudaAublRqhrXTfjzs8d
ysJPT5p2uZYn6PWlTITUNGGrdIOAE8peA0oIH+FgJYvSlPDNCBtlaD5z1/kIN04Z
fUNdqW6rmkbvwduXRLI9OpzIye39eHOnM/Ji/dZNr0dy4OqqpBsR/NPt2SaNmle5
TfOLUjXnAgMBAAECggEAFZoAdHS9sqJqf9ldnb+B2OYOnFHS/aIWY0PVd8NUkNOI
kz9TC0J1Ng9b6otmlc3XsYxoCusafYIKejhD/vdpDcJW3SMofasTXL5xg7qt7zdB
hUHies65dpy2HHz+DCCqqo8lyhHB4ktFEhJBaF7oShgUAZB0n0dnWlUxCU9g2pB1
37HhY04OfzNKUcRFu12iHclYAQC3XTww70yKMwMwj/MoecX8eSHBGw/Qq/dvteji
dHr0FOQkwgAAy7qeWqyj14+W4bgqAUqP6LBvu3lONv+hLJQPUnEEQp6We2Ke9opu
769AiX0HsR7bDVEUEEe7IhCyalI4gFQrHoPj8ACFOQKBgQDfoE7VCEQJLA+0kZ4a
kXKF/ffrPnhIGDQ6Lf/3jP+5gKL0KkpQWNy597VvYWqqofvLoaNGUIr1PLzfh5MM
Vwa36YoB+25H2sclLAbE2lUs0jb62bGGlyfaEM4Fw8sMcP22Y0f4NiiB1klCXfy+
Kz0I4fSFn4kJwscc0YrSVZa+vQKBgQDOjHUQHvOIQimTP4734l7jzI93YCNiE890
CHFFFI0fQIIXXLCSS4xgZT9z471FnKhjkrVTbeGsABqMsoS2QII5udsLzZErJJxD
v9mv95Z0wjeVKcjRSrVA5TdGSoJHeCPcT6wQr2XT5sHhUS5jHSuZ0AdKJp48ysJ/
7pd+OKSTcwKBgHNbT68nD2mn2AYuo99SrkAejZhFZmjSS4bDmeoKSxRXHjhT5Hfk
DyDDfk2RdCPHYYteu0oXXEc7aLbqSdmwvt96Ul3JZM8eNWKgfnFnq05utjvatnAW
Y1FjH9Prdz/YvZgrSMHqtiSb9LiOoUU8KsT9QlT3wgpN9saP9UuhKR0FAoGAIWxP
IR2xENKMAbzeOLST4E7gxFN1RlCoWEFpeuE5eN4qbvdbx0CcZZjcrLckkJgqE3rR
BsAYLYoSwcO9f/RuXkL59C3+mLmi47+uzS/GU/x9nBCX424waGDvEdvKux/wxZzK
3iRT2PdVVk2ZsQYuYQRtuY0IPBQfZy5Hq3AlCYsCgYEAk0caF6AzhE0f9RdwLEwo
zpvU1M6IiJw0JUeyVvXu1dQl95SNsadW6hokuEhaHA2pXtdgZyNT519VuVrvfeoQ
cLH5HmYIwDOprZ5yTWn0xcPhj77Noxrsct0ePDswutxaxSU7a7Ayoj1xaUOR2Sq0
plIryP+GD+VXOsU1xzCGzpU=
-----END PRIVATE KEY-----
`
