// Before the page is drawn: the reader's choice of light or dark, which the button at the top makes.
document.body.dataset.theme = localStorage.getItem("theme") || "auto";
